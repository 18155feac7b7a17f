//! W3C trace context, version 00: read, checked, carried on. We start no traces and keep no spans.

/// A `traceparent` of version 00 has this many bytes; later versions may append to it.
const TRACEPARENT_BYTES: usize = 55;
/// Longest `traceparent` that is looked at, in bytes.
const TRACEPARENT_BYTES_MAX: usize = 256;

/// The part of a valid `traceparent` header that travels on: version 00's fields. `None` where it isn't valid; the
/// standard then says to go on as if there were none.
pub fn valid(header: &str) -> Option<&str> {
    let bytes = header.as_bytes();
    if !(TRACEPARENT_BYTES..=TRACEPARENT_BYTES_MAX).contains(&bytes.len()) {
        return None;
    }
    let hex = |part: &[u8]| part.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b));
    let some = |part: &[u8]| hex(part) && part.iter().any(|b| *b != b'0');
    let dashes = bytes[2] == b'-' && bytes[35] == b'-' && bytes[52] == b'-';
    let version = &bytes[..2];
    let length = match version {
        b"00" => bytes.len() == TRACEPARENT_BYTES,
        b"ff" => false,
        _ => bytes.len() == TRACEPARENT_BYTES || bytes[TRACEPARENT_BYTES] == b'-',
    };
    let fields = hex(version) && some(&bytes[3..35]) && some(&bytes[36..52]) && hex(&bytes[53..55]);
    // The first 55 bytes are ASCII here, so this is a character boundary.
    (dashes && length && fields).then(|| &header[..TRACEPARENT_BYTES])
}

/// The trace id of a `traceparent`, for a log line, which leaves the field out where there is none that is valid.
pub fn trace_id(traceparent: Option<&str>) -> Option<&str> {
    traceparent.and_then(valid).map(|valid| &valid[3..35])
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_valid_context_is_carried_and_its_trace_id_is_found() {
        assert_eq!(valid(GOOD), Some(GOOD));
        assert_eq!(trace_id(Some(GOOD)), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
        let later = format!("{}-more", GOOD.replacen("00", "01", 1));
        assert_eq!(valid(&later).unwrap().len(), 55);
        assert_eq!((trace_id(None), trace_id(Some("00"))), (None, None));
    }

    #[test]
    fn what_is_not_a_context_is_ignored() {
        let zero_trace = GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32));
        let zero_span = GOOD.replace("00f067aa0ba902b7", &"0".repeat(16));
        let long = format!("{GOOD}-more");
        let upper = GOOD.to_uppercase();
        let ff = GOOD.replacen("00", "ff", 1);
        let umlaut = format!("{}ä", &GOOD[..54]);
        for bad in ["", "x", &zero_trace, &zero_span, &long, &upper, &ff, &umlaut, &"é".repeat(40)] {
            assert_eq!(valid(bad), None, "{bad}");
        }
    }
}
