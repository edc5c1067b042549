//! A request as Rook apps know it: what httpuv puts into its environment.

use extendr_api::prelude::*;
use faucet_core::serve::Request;

/// Headers whose value is no UTF-8: in the other fields it is not quite what it was.
pub fn not_utf8(request: &Request) -> Vec<(String, Robj)> {
    let names = request.headers.keys();
    names
        .map(|name| (name.as_str().to_owned(), joined(request, name.as_str())))
        .filter(|(_, value)| std::str::from_utf8(value).is_err())
        .map(|(name, value)| (name, Raw::from_bytes(&value).into()))
        .collect()
}

/// What httpuv puts into the environment of a request with a body of so many bytes, but for what R makes.
pub fn fields(request: &Request, length: u64, constants: &[(&'static str, String)]) -> List {
    let headers = headers(request, length);
    let mut names: Vec<String> = Vec::with_capacity(headers.len() + 12);
    let mut values: Vec<Robj> = Vec::with_capacity(headers.len() + 12);
    let mut put = |name: String, value: Robj| {
        names.push(name);
        values.push(value);
    };
    let query = request
        .target
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    put("REQUEST_METHOD".into(), request.method.as_str().into());
    put("PATH_INFO".into(), request.target.path().into());
    put("QUERY_STRING".into(), query.into());
    for (name, value) in constants {
        put((*name).into(), value.as_str().into());
    }
    for (name, value) in &headers {
        let variable = format!("HTTP_{}", name.to_ascii_uppercase().replace('-', "_"));
        if name == "x-forwarded-prefix" {
            // Where the app is, as CGI has it: the front vouches for it. It takes the place of the constant.
            put("SCRIPT_NAME".into(), value.as_str().into());
        }
        if name == "x-forwarded-proto" && is_https(value) {
            // The client's scheme: the front vouches for that, too.
            put("rook.url_scheme".into(), "https".into());
        }
        match name.as_str() {
            "content-type" => put("CONTENT_TYPE".into(), value.as_str().into()),
            "content-length" => put("CONTENT_LENGTH".into(), value.as_str().into()),
            _ => {}
        }
        put(variable, value.as_str().into());
    }
    let mut all: Robj = headers
        .iter()
        .map(|(_, value)| value.as_str())
        .collect_robj();
    // Of the same length, so that it cannot fail.
    let _ = all.set_names(headers.iter().map(|(name, _)| name.as_str()));
    put("HEADERS".into(), all);
    List::from_names_and_values(names, values).unwrap_or_else(|_| List::new(0))
}

/// Whether the client came to the first of the proxies by TLS.
fn is_https(proto: &str) -> bool {
    let first = proto.split(',').next().unwrap_or_default();
    first.trim() == "https"
}

/// The value of a header. If it came more than once, the values that are not empty are joined by a comma, as httpuv does.
fn joined(request: &Request, name: &str) -> Vec<u8> {
    let values: Vec<&[u8]> = request
        .headers
        .get_all(name)
        .iter()
        .map(|value| value.as_bytes())
        .filter(|value| !value.is_empty())
        .collect();
    values.join(&b',')
}

/// Names and values, sorted by name.
fn headers(request: &Request, length: u64) -> Vec<(String, String)> {
    let mut headers: Vec<(String, String)> = request
        .headers
        .keys()
        .map(|name| {
            let value = joined(request, name.as_str());
            let value = String::from_utf8(value)
                .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
            (name.as_str().to_owned(), value)
        })
        .collect();
    // A body's length is known, however it came.
    if length > 0 || request.headers.contains_key("content-length") {
        headers.retain(|(name, _)| name != "content-length" && name != "transfer-encoding");
        headers.push(("content-length".into(), length.to_string()));
    }
    headers.sort_unstable();
    headers
}
