//! `error_page`.

use std::fs;

use super::*;

#[test]
fn error_pages_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("j.toml");
    fs::write(folder.path().join("sorry.html"), "<p>sorry").unwrap();
    let text = |pages: &str| {
        format!("{LEAST}\n[[cluster.error_page]]\nstatus = 503\nfile = \"sorry.html\"\n{pages}")
    };
    fs::write(&file, text("")).unwrap();
    let (plan, warnings) = load(&file, &Overrides::default()).unwrap();
    assert_eq!(warnings, []);
    let page = &plan.clusters[0].error_pages[0];
    assert_eq!(
        (page.status, &*page.content_type, &*page.body),
        (503, "text/html", &b"<p>sorry"[..])
    );

    let more = "[[cluster.error_page]]\nstatus = 503\nfile = \
                \"no.html\"\n[[cluster.error_page]]\nstatus = 418\nfile = \
                \"sorry.html\"\ncontent_type = \"a\\nb\"\n";
    fs::write(&file, text(more)).unwrap();
    let said = shown(&load(&file, &Overrides::default()).unwrap_err());
    for part in [
        "14:10: cluster[0].error_page[1].status: there is already a page for 503",
        "15:8: cluster[0].error_page[1].file: ",
        "17:10: warning: cluster[0].error_page[2].status: the cluster never answers with 418",
        "19:16: cluster[0].error_page[2].content_type: is no media type",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn a_page_that_is_never_sent_is_told() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("p"), "page").unwrap();
    let load = |text: &str| {
        let file = folder.path().join("j.toml");
        fs::write(&file, text).unwrap();
        shown(&load(&file, &Overrides::default()).unwrap().1)
    };
    let page =
        |of: &str, status: u16| format!("[[{of}.error_page]]\nstatus = {status}\nfile = \"p\"\n");
    for status in [400, 408, 413, 431, 502, 503, 504] {
        assert_eq!(load(&format!("{LEAST}\n{}", page("cluster", status))), "");
    }
    for status in [404, 405, 414, 417, 500, 501, 505] {
        let said = load(&format!("{LEAST}\n{}", page("cluster", status)));
        let hint = "the listener does: write it in the [[listener]]";
        assert!(
            said.contains(&format!("never answers with {status}")) && said.contains(hint),
            "{said}"
        );
    }
    let pages = |statuses: &[u16]| {
        let pages = statuses
            .iter()
            .map(|&status| page("listener", status))
            .collect::<String>();
        LEAST.replacen("[[cluster]]", &format!("{pages}[[cluster]]"), 1)
    };
    assert_eq!(
        load(&pages(&[
            400, 404, 405, 408, 413, 414, 417, 431, 500, 501, 502, 503, 504, 505
        ])),
        ""
    );
    for status in [418, 499] {
        let said = load(&pages(&[status]));
        assert!(
            said.contains(&format!(
                "listener[0].error_page[0].status: the balancer itself never answers with {status}"
            )),
            "{said}"
        );
    }
}
