//! What differs between the two doors, and the rule of AWS that causes it. The list is closed: a difference that does
//! not stand here fails the test, and so does one that stands here and is none.

use super::{Doors, Verdict};

pub struct Exception {
    pub input: &'static str,
    pub doors: Doors,
    pub set_api: Verdict,
    pub gateway: Verdict,
    /// For the reader.
    pub _rule: &'static str,
}

pub const EXCEPTIONS: &[Exception] = &[
    Exception {
        input: "an array of sets",
        doors: Doors::All,
        set_api: Verdict::Taken,
        gateway: Verdict::Refused,
        _rule: "One call of an AWS integration is one SendMessage, so the API takes one object.",
    },
    Exception {
        input: "UTF-8 by name",
        doors: Doors::All,
        set_api: Verdict::Taken,
        gateway: Verdict::Refused,
        _rule: "requestTemplates are found by the whole Content-Type; with passthroughBehavior NEVER others are answered \
                415. The caller must send application/json without parameters.",
    },
    Exception {
        input: "problem JSON",
        doors: Doors::All,
        set_api: Verdict::Taken,
        gateway: Verdict::Refused,
        _rule: "The same: the set API takes every type that ends in +json.",
    },
    Exception {
        input: "no content type",
        doors: Doors::All,
        set_api: Verdict::Refused,
        gateway: Verdict::Taken,
        _rule: "Where no Content-Type is sent, API Gateway takes application/json for granted.",
    },
    Exception {
        input: "nested far too deep",
        doors: Doors::All,
        set_api: Verdict::Refused,
        gateway: Verdict::Failed,
        _rule: "$input.path reads the body once more, and its parser has a depth of its own; a template that fails is \
                answered 500. Nothing reaches the queue.",
    },
    Exception {
        input: "bytes that are not UTF-8",
        doors: Doors::StandIn,
        set_api: Verdict::Refused,
        gateway: Verdict::Taken,
        _rule: "A body that is of no binary media type is text to API Gateway. What it makes of bytes that are none, \
                AWS does not say; the stand-in puts U+FFFD in their place, as Java does.",
    },
    Exception {
        input: "bytes that are not UTF-8",
        doors: Doors::LocalStack,
        set_api: Verdict::Refused,
        gateway: Verdict::Failed,
        _rule: "The same; LocalStack answers 500.",
    },
];
