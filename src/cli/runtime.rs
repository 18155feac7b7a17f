//! A small runtime, for the commands that talk to Redis and SQS themselves rather than to a server of ours.

/// Runs it to its end, on this thread.
pub fn block_on<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.map_err(|error| format!("the system gives no runtime: {error}"))?.block_on(work))
}
