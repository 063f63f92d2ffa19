//! The bytes of archives, by signed addresses: downloads with ranges, uploads as the block blobs that version 2 has.

use std::ops::Range;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;
use warp::{Reply, reply::Response};

use super::{
    Request, Shared,
    answer::{Refusal, bare, identified},
    parameter, text,
};
use crate::cache::store::{Place, Store, on_disk};

/// How much of an archive is in memory for one download.
const PIECE: usize = 256 << 10;

/// The longest list of blocks: fifty thousand of them.
const LIST: usize = 8 << 20;

/// `GET artifacts/ID`
pub(super) async fn download(shared: &Shared, id: u64, request: Request) -> Result<Response, Refusal> {
    let opened = on_disk(&shared.store, move |store| store.read(id)).await?;
    let Some((file, entry)) = opened else {
        return Err(Refusal::new(StatusCode::NOT_FOUND, "this archive is gone"));
    };
    let Ok(range) = wanted_range(&request.headers, entry.size) else {
        let mut response = bare(StatusCode::RANGE_NOT_SATISFIABLE);
        set(&mut response, header::CONTENT_RANGE, &format!("bytes */{}", entry.size));
        return Ok(response);
    };
    let part = range.clone().unwrap_or(0..entry.size);
    let length = part.end - part.start;
    let mut response = if request.method == Method::HEAD {
        bare(StatusCode::OK)
    } else {
        let mut file = tokio::fs::File::from_std(file);
        let unread = |error: std::io::Error| Refusal {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            text: format!("the archive cannot be read: {error}"),
        };
        file.seek(std::io::SeekFrom::Start(part.start)).await.map_err(unread)?;
        shared.metrics.cache_moved("out", length);
        warp::reply::stream(ReaderStream::with_capacity(file.take(length), PIECE)).into_response()
    };
    if range.is_some() {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let text = format!("bytes {}-{}/{}", part.start, part.end - 1, entry.size);
        set(&mut response, header::CONTENT_RANGE, &text);
    }
    set(&mut response, header::CONTENT_LENGTH, &length.to_string());
    set(&mut response, header::CONTENT_TYPE, "application/octet-stream");
    set(&mut response, header::ACCEPT_RANGES, "bytes");
    // An archive never changes under its number.
    set(&mut response, header::ETAG, &format!("\"{id}\""));
    identified(&mut response);
    Ok(response)
}

fn set(response: &mut Response, name: header::HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        response.headers_mut().insert(name, value);
    }
}

/// A range that nothing lies in.
#[derive(Debug, PartialEq, Eq)]
struct Unsatisfiable;

/// The one range that is asked for; `None`: everything, as for ranges that are not understood.
fn wanted_range(headers: &HeaderMap, size: u64) -> Result<Option<Range<u64>>, Unsatisfiable> {
    // Azure's clients have a header of their own, which comes first there.
    let asked = headers.get("x-ms-range").or_else(|| headers.get(header::RANGE));
    let Some(text) = asked.and_then(|range| range.to_str().ok()?.trim().strip_prefix("bytes=")) else {
        return Ok(None);
    };
    let Some((first, last)) = text.split_once('-') else { return Ok(None) };
    let range = match (first.trim().parse::<u64>(), last.trim()) {
        (Ok(first), "") => first..size,
        (Ok(first), last) => match last.parse::<u64>() {
            Ok(last) if last >= first => first..last.saturating_add(1).min(size),
            _ => return Ok(None),
        },
        // The last so many bytes.
        (Err(_), last) if first.trim().is_empty() => match last.parse::<u64>() {
            Ok(last) => size.saturating_sub(last)..size,
            Err(_) => return Ok(None),
        },
        (Err(_), _) => return Ok(None),
    };
    if range.start >= range.end { Err(Unsatisfiable) } else { Ok(Some(range)) }
}

/// `PUT blobs/ID`: the whole archive, a block of it, or the list of its blocks.
pub(super) async fn upload(shared: &Shared, id: u64, request: Request) -> Result<Response, Refusal> {
    let upload = on_disk(&shared.store, move |store| store.upload(id, None)).await?;
    let Request { query, body, .. } = request;
    let place = match parameter(&query, "comp").as_deref() {
        Some("blocklist") => {
            let list = text(body, LIST).await?;
            let names = block_names(&String::from_utf8_lossy(&list))
                .ok_or_else(|| Refusal::bad("the list of blocks is not understood".to_owned()))?;
            on_disk(&shared.store, move |_| Store::assemble(&upload, &names)).await?;
            return Ok(created());
        }
        Some("block") => match parameter(&query, "blockid") {
            Some(name) if !name.is_empty() => Place::Block(name),
            _ => return Err(Refusal::bad("a block needs a blockid".to_owned())),
        },
        Some(other) => return Err(Refusal::bad(format!("comp={other} is not served here"))),
        None => Place::Whole,
    };
    let bytes = shared.store.receive(&upload, place, body).await?;
    shared.metrics.cache_moved("in", bytes);
    Ok(created())
}

fn created() -> Response {
    bare(StatusCode::CREATED)
}

/// The names in `<BlockList><Latest>NAME</Latest>…</BlockList>`, in order.
fn block_names(xml: &str) -> Option<Vec<String>> {
    let mut rest = xml.split_once("<BlockList>")?.1;
    let mut names = Vec::new();
    loop {
        let (before, tag) = rest.split_once('<')?;
        if !before.trim().is_empty() {
            return None;
        }
        let (tag, after) = tag.split_once('>')?;
        if tag == "/BlockList" {
            return Some(names);
        }
        if !matches!(tag, "Latest" | "Uncommitted" | "Committed") {
            return None;
        }
        let (name, after) = after.split_once(&format!("</{tag}>"))?;
        names.push(name.trim().to_owned());
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, header};

    use super::{Unsatisfiable, block_names, wanted_range};

    #[test]
    fn ranges_are_those_of_http_and_of_azure() {
        let range = |text: &'static str| {
            let headers = HeaderMap::from_iter([(header::RANGE, HeaderValue::from_static(text))]);
            wanted_range(&headers, 10)
        };
        assert_eq!(range("bytes=0-3"), Ok(Some(0..4)));
        assert_eq!(range("bytes=4-"), Ok(Some(4..10)));
        assert_eq!(range("bytes=-3"), Ok(Some(7..10)));
        assert_eq!(range("bytes=-30"), Ok(Some(0..10)));
        assert_eq!(range("bytes=8-99"), Ok(Some(8..10)));
        assert_eq!(range("bytes=10-"), Err(Unsatisfiable));
        assert_eq!(range("bytes=-0"), Err(Unsatisfiable));
        for all in ["bytes=3-1", "bytes=x-2", "bytes=1", "lines=1-2", "bytes=0-1,3-4"] {
            assert_eq!(range(all), Ok(None), "{all}");
        }
        let mut headers = HeaderMap::new();
        headers.insert("x-ms-range", HeaderValue::from_static("bytes=1-2"));
        headers.insert(header::RANGE, HeaderValue::from_static("bytes=0-"));
        assert_eq!(wanted_range(&headers, 10), Ok(Some(1..3)));
        assert_eq!(wanted_range(&HeaderMap::new(), 0), Ok(None));
    }

    #[test]
    fn a_list_names_blocks_in_order() {
        let xml = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<BlockList>\n<Latest>YQ==</Latest>\n <Uncommitted>b+/=</Uncommitted></BlockList>";
        assert_eq!(block_names(xml).expect("a list"), ["YQ==", "b+/="]);
        assert_eq!(block_names("<BlockList></BlockList>").expect("a list"), Vec::<String>::new());
        for wrong in
            ["", "<BlockList>", "<BlockList><Latest>x</BlockList>", "<BlockList><Other>x</Other></BlockList>"]
        {
            assert_eq!(block_names(wrong), None, "{wrong}");
        }
    }
}
