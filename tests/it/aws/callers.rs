//! Who sent it: what a body can't forge, and what an identity may not.
