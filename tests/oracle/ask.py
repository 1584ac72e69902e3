#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""ask.py ROOT [CORPUS] - what an unpacked package of fail2ban says about samples of log lines.

ROOT is where the package was unpacked. Its own samples are asked about, and those of CORPUS, a directory of *.jsonl.
The first line of the answer has the package's version. Each other line is a JSON object: one sample with one set of
options, in the order in which they must be fed. `key` is the start of the SHA-1 of its line. `line` and `journal` of
`says` are the address for which fail2ban counts a failure (null: none), once given the line as it stands in a file, once
as its systemd backend puts a journal's entry together; a version without the filter or the option says nothing.
"""
import glob, hashlib, json, logging, os, re, signal, sys, time

root, corpus = sys.argv[1], sys.argv[2:]
os.environ["TZ"] = "CET-01CEST-02,M3.5.0,M10.5.0"
time.tzset()
sys.dont_write_bytecode = True
package = root + "/usr/lib/python3/dist-packages"
sys.path.insert(0, package)
from fail2ban.client.filterreader import FilterReader
from fail2ban.server.failregex import RegexException
from fail2ban.server.filter import Filter
from fail2ban.server.mytime import MyTime
from fail2ban.version import version

logging.disable(logging.CRITICAL)
NOW, NOW_TEXT = 1124013600, "2005-08-14T10:00:00"
MyTime.setAlternateNow(NOW)
MyTime.myTime = NOW
CONFIG = root + "/etc/fail2ban"

DATE = r"(?:[A-Z][a-z]{2} {1,2}\d{1,2}(?: \d{4})? |\d{4}-\d\d-\d\dT)\d\d:\d\d:\d\d(?:\.\d+)?(?:[+-]\d\d:\d\d|Z)? +"
ANY_DATE = r"(?:%s|\d{4}[-/]\d\d[-/]\d\d[ T]\d\d:\d\d:\d\d\S*|\w{3} \w{3} +\d+ \d\d:\d\d:\d\d\S* \d{4}) *[\]):]* *" % DATE.rstrip(" +")
ENTRY = r"(?:<\w+\.\w+> +)?(?:(?P<_HOSTNAME>[^\s:]+) +)?(?P<SYSLOG_IDENTIFIER>[^\s:\[\]]+)(?:\[(?P<SYSLOG_PID>\d+)\])?:(?: (?P<MESSAGE>.*)|$)"


def entry(line, dated):
    """The fields of the entry that syslog made this line of, if it is such a line."""
    found = re.match((DATE if dated else "") + ENTRY, line, re.S)
    return found and present(found.groupdict())


def present(fields):
    return fields and {name: value or "" for name, value in fields.items() if value or name == "MESSAGE"}


class Slow(BaseException):
    """A search took more than a second of the processor."""


def slow(*_):
    raise Slow


signal.signal(signal.SIGVTALRM, slow)


class Asked:
    """One filter with one set of options, and the sessions it remembers."""
    def __init__(self, name, options):
        self.filter = flt = Filter(None)
        flt.checkFindTime = False
        flt.active = True
        flt.setUseDns("no")
        reader = FilterReader(name, "jail", dict(options), basedir=CONFIG, share_config=None)
        reader.read()
        reader.getOptions({})
        for command in reader.convert():
            for value in command[3] if command[0] == "multi-set" else [command[3]]:
                match command[2]:
                    case "prefregex": flt.prefRegex = value
                    case "addfailregex": flt.addFailRegex(value)
                    case "addignoreregex": flt.addIgnoreRegex(value)
                    case "maxlines": flt.setMaxLines(value)
                    case "datepattern": flt.setDatePattern(value)

    def says(self, line, date=None):
        """The address; "slow" where the search comes to no end (GHSA-33wh-ccjc-p397, open in 1.1.0)."""
        signal.setitimer(signal.ITIMER_VIRTUAL, 1)
        try:
            return self.address(line, date)
        except Slow:
            return "slow"
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)

    def address(self, line, date):
        found = [fid for _, fid, _, fail in self.filter.processLine(line, date) if fid is not None and not fail.get("nofail")]
        return str(found[0]) if found else None


def package_rows():
    """The package's samples."""
    for name in sorted(os.listdir(CONFIG + "/filter.d")):
        name, dot, ending = name.rpartition(".")
        if ending == "conf" and os.path.exists(f"{package}/fail2ban/tests/files/logs/{name}"):
            yield from samples_of(name)


def samples_of(name):
    files, usual, sets, about = [name], {}, None, None
    for file in files:
        for line in open(f"{package}/fail2ban/tests/files/logs/{file}", encoding="utf-8", newline="\n"):
            line = line.rstrip("\r\n")
            told = re.match("#+ ?(failJSON|fileOptions|filterOptions|addFILE):(.+)", line)
            if told:
                value = json.loads(told[2])
                match told[1]:
                    case "failJSON": about = value
                    case "fileOptions": usual = value
                    case "addFILE": files.append(value)
                    case "filterOptions":
                        every = [{**usual, **one} for one in (value if isinstance(value, list) else [value])]
                        sets = [one for one in every if holds(one.get("test.condition"), name, one)]
                continue
            if about is None and (line.startswith("#") or not line.strip()):
                continue
            about = about or {}
            for options in [{}] if sets is None else sets:
                if holds(about.get("constraint"), name, options):
                    yield {"source": "package", "filter": name, "options": plain(options), "line": line,
                           "prefix": options.get("test.prefix-line", ""), "match": about.get("match", False),
                           "host": address(about)}
            about = None


def holds(condition, name, options):
    return not condition or eval(condition, {}, {"name": name, "opts": options})


def address(row):
    return row.get("host") or row.get("ip4") or row.get("ip6")


def plain(options):
    return {name: value for name, value in options.items() if not name.startswith("test.")}


def corpus_rows(directory):
    for file in sorted(glob.glob(directory + "/*.jsonl")):
        for row in sorted(map(json.loads, open(file, encoding="utf-8")), key=lambda row: row["x"]["seq"]):
            given = row["x"].get("testopts") or {}
            given = given if isinstance(given, list) else [given] * len(row["options"])
            for options, applies, test in zip(row["options"], row["x"]["applies"], given):
                if applies:
                    yield {"source": "corpus", "filter": row["filter"], "options": plain(options), "line": row["line"],
                           "prefix": (test or {}).get("test.prefix-line", ""), "match": row["match"],
                           "host": address(row), "journal": present(row["x"].get("journal"))}


def main():
    print(json.dumps({"version": version}))
    asked = {}
    for row in list(package_rows()) + [row for directory in corpus for row in corpus_rows(directory)]:
        live = row["options"].get("logtype") == "journal"
        line = row["prefix"] * live + row["line"]
        derived = entry(line, dated=not live)
        row["derived"] = derived == row.setdefault("journal", derived)
        row["key"] = hashlib.sha1(row["line"].encode()).hexdigest()[:12]
        row["rest"] = re.sub(r"^[\[(]?" + ANY_DATE, "", row["line"])
        row["says"] = {}
        for way in ("line", "journal") if row["journal"] else ("line",):
            options = {**row["options"], "logtype": "journal"} if way == "journal" else row["options"]
            key = row["source"], way, row["filter"], json.dumps(row["options"], sort_keys=True)
            if key not in asked:
                asked[key] = filter_of(row["filter"], options)
            if asked[key] and way == "line" and not live:
                row["says"][way] = asked[key].says(line)
            elif asked[key]:
                row["says"][way] = asked[key].says(("", NOW_TEXT, line if way == "line" else text(row["journal"])), NOW)
        print(json.dumps(row))


def filter_of(name, options):
    """The filter to ask, or None where this version has none of this name or knows no such option."""
    try:
        return Asked(name, options) if os.path.exists(f"{CONFIG}/filter.d/{name}.conf") else None
    except RegexException:
        return None


def text(entry):
    """The entry as the systemd backend writes it."""
    pid = f"[{entry['SYSLOG_PID']}]" if "SYSLOG_PID" in entry else ""
    return " ".join([*filter(None, [entry.get("_HOSTNAME")]), f"{entry['SYSLOG_IDENTIFIER']}{pid}:", entry["MESSAGE"]])


main()
