//! The AWS edge, without a cloud: API Gateway's document and its mapping templates, the template of the stack, and the
//! same inputs through both doors.
//!
//! | file | holds |
//! | --- | --- |
//! | `openapi` | what the document of the API must say |
//! | `velocity` | mapping templates by Apache Velocity |
//! | `door` | API Gateway: a stand-in over Velocity and an SQS emulator, or LocalStack |
//! | `callers` | who sent it: a forged envelope, an identity that may not |
//! | `differential` | the table of inputs, and the closed list of what differs |
//! | `template` | what the stack must be, and what parameters it refuses |

mod callers;
mod differential;
mod door;
mod openapi;
pub mod template;
mod velocity;
