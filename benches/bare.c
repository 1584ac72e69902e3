/* The least that reading some units' messages costs through libsystemd: one match for each, next, MESSAGE. */
#include <stdio.h>
#include <string.h>
#include <systemd/sd-journal.h>

int main(int argc, char **argv) {
        unsigned long long entries = 0, bytes = 0;
        sd_journal *journal;
        int r;

        if (argc < 3 || sd_journal_open_directory(&journal, argv[1], 0) < 0)
                return 1;
        for (int i = 2; i < argc; i++)
                if (sd_journal_add_match(journal, argv[i], strlen(argv[i])) < 0)
                        return 1;
        if (sd_journal_seek_head(journal) < 0)
                return 1;
        while ((r = sd_journal_next(journal)) > 0) {
                const void *data;
                size_t length;

                if (sd_journal_get_data(journal, "MESSAGE", &data, &length) < 0)
                        continue;
                entries++;
                bytes += length;
        }
        printf("%llu entries, %llu bytes\n", entries, bytes);
        sd_journal_close(journal);
        return r < 0;
}
