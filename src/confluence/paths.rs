//! What is asked for: paths below a site's API base, of REST v2 (Cloud) and of v1 (Data Center).

use super::{FetchError, Order, PAGES_PER_LISTING, Product, cursor};

/// Whether pages come with what they say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum With {
    Bodies,
    NoBodies,
}

pub(super) fn page(product: Product, page: u64) -> String {
    match product {
        Product::Cloud => format!("/api/v2/pages/{page}?body-format=storage"),
        // Without `status=any` a page in the trash would be 404.
        Product::DataCenter => format!("/rest/api/content/{page}?status=any&{}", expand(With::Bodies)),
    }
}

pub(super) fn pages(product: Product, order: Order, from: Option<&str>, with: With) -> Result<String, FetchError> {
    let mut path = match (product, order) {
        (Product::Cloud, Order::Id) => "/api/v2/pages?sort=id&status=current&status=archived",
        (Product::Cloud, Order::LatestFirst) => "/api/v2/pages?sort=-modified-date&status=current&status=archived",
        (Product::DataCenter, Order::Id) => "/rest/api/content?type=page&status=current",
        // Only the search sorts by the last change. Its index lags, by minutes at worst.
        (Product::DataCenter, Order::LatestFirst) => {
            "/rest/api/content/search?cql=type%3Dpage%20order%20by%20lastmodified%20desc"
        }
    }
    .to_owned();
    let body = match (product, with) {
        (Product::Cloud, With::Bodies) => "&body-format=storage".to_owned(),
        (Product::Cloud, With::NoBodies) => String::new(),
        (Product::DataCenter, with) => format!("&{}", expand(with)),
    };
    path.push_str(&format!("{body}&limit={PAGES_PER_LISTING}"));
    if let Some(from) = from {
        path.push('&');
        path.push_str(cursor::member(from)?);
    }
    Ok(path)
}

/// v2 alone: v1 tells the key of its space with each page.
pub(super) fn space(space_id: u64) -> String {
    format!("/api/v2/spaces/{space_id}")
}

/// Cheap, and answered to every credential that may see anything.
pub(super) fn probe(product: Product) -> &'static str {
    match product {
        Product::Cloud => "/api/v2/spaces?limit=1",
        Product::DataCenter => "/rest/api/space?limit=1",
    }
}

/// v1: what of a page is to be told.
fn expand(with: With) -> &'static str {
    match with {
        With::Bodies => "expand=body.storage%2Cversion%2Cspace",
        With::NoBodies => "expand=version%2Cspace",
    }
}
