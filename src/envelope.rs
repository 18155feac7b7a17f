//! The envelope: what travels on the road, and the limits that it keeps.
//!
//! Pure and synchronous: it does no I/O, and time is an argument. Whatever enters the buffer is made by
//! [`wire::encode`], and whatever leaves it passes [`wire::decode`], which trusts nothing that it reads.
//!
//! | file | holds |
//! | --- | --- |
//! | `names` | account, flow, webhook key: what a legal name is |
//! | `version` | which of two events is newer; the ETag |
//! | `request` | the set and the delete request, typed and checked |
//! | `wire` | the wire form that lies in the buffer |
//! | `peek` | what a body says of itself, however broken it is |
//! | `grants` | who may touch which account and which key |
//! | `items` | the first items of an array that may be too long |
//! | `stamp` | ids and arrival times, strictly increasing in a process |
//! | `page_links` | what page links are called |
//! | `limits` | every limit of the above, with its unit |

pub mod grants;
pub mod items;
pub mod limits;
pub mod names;
pub mod page_links;
pub mod peek;
pub mod request;
pub mod stamp;
pub mod version;
pub mod wire;

pub use grants::{Accounts, Grants, Refusal};
pub use items::first_items;
pub use names::{Account, Flow, NameError, SiteId, WebhookKey};
pub use peek::{Peek, peek};
pub use request::{DeleteRequest, Event, Fault, FaultCode, SetRequest};
pub use stamp::{Clock, Stamp, Stamper};
pub use version::Version;
pub use wire::{Action, Envelope, Poison, PoisonCode, WireForm};
