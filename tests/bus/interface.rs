//! Introspection, reduced to what it says: an interface's members in a fixed order, without comments and layout.

/// The members of `interface` in `xml`, each with its arguments or annotations, sorted.
pub fn members(xml: &str, interface: &str) -> Vec<String> {
    let xml = without_comments(xml);
    let opening = format!("<interface name=\"{interface}\">");
    let start = xml.find(&opening).unwrap_or_else(|| panic!("{interface} is not served")) + opening.len();
    let body = &xml[start..start + xml[start..].find("</interface>").unwrap()];
    let mut members: Vec<String> = Vec::new();
    let mut open = false;
    for tag in body.split('<').map(str::trim).filter(|tag| !tag.is_empty()) {
        let tag = tag.trim_end_matches('>').trim();
        if tag.starts_with('/') {
            open = false;
            continue;
        }
        let alone = tag.ends_with('/');
        let text = sorted(tag.trim_end_matches('/').trim());
        if open {
            let last = members.last_mut().unwrap();
            last.push_str(" | ");
            last.push_str(&text);
        } else {
            members.push(text);
            open = !alone;
        }
    }
    members.sort();
    members
}

/// A tag with its attributes in order.
fn sorted(tag: &str) -> String {
    let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
    let mut attributes: Vec<&str> =
        attributes.split("\" ").map(|a| a.trim().trim_end_matches('"')).filter(|a| !a.is_empty()).collect();
    attributes.sort_unstable();
    format!("{name} {}", attributes.join(" "))
}

fn without_comments(xml: &str) -> String {
    let mut rest = xml;
    let mut out = String::new();
    while let Some(start) = rest.find("<!--") {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        rest = &rest[rest.find("-->").expect("a comment ends") + 3..];
    }
    out + rest
}
