//! `GET /`: the list of routes as one plain page, made from the table of routes.

use crate::routes::ROUTES;

/// The page. Nothing in it comes from outside but the version.
pub(crate) fn page(version: &str) -> String {
    let mut rows = String::new();
    for route in ROUTES {
        let method = route.method.to_uppercase();
        let path = if route.method == "get" && !route.path.contains('{') {
            format!("<a href=\"{0}\">{0}</a>", route.path)
        } else {
            route.path.to_owned()
        };
        rows.push_str(&format!("<tr><td>{method}<td>{path}<td>{}\n", route.summary));
    }
    let version = version.replace('&', "&amp;").replace('<', "&lt;");
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Streamgauge</title>\n\
         <style>body{{font:14px/1.5 system-ui,sans-serif;margin:2rem;color-scheme:light dark}}td{{padding:0 1rem 0 0}}</style>\n\
         <h1>Streamgauge {version}</h1><table>\n{rows}</table></html>\n"
    )
}
