//! A connection out of a pool. One that is dropped before it is settled is closed: whatever was under way on it, nobody
//! else meets it.

use sqlx::pool::PoolConnection;
use sqlx::{Database, Pool};

pub struct Lent<DB: Database> {
    connection: PoolConnection<DB>,
    settled: bool,
}

impl<DB: Database> Lent<DB> {
    /// Waits for one, for as long as the pool says.
    pub async fn of(pool: &Pool<DB>) -> sqlx::Result<Self> {
        Ok(Self { connection: pool.acquire().await?, settled: false })
    }

    pub fn connection(&mut self) -> &mut DB::Connection {
        &mut self.connection
    }

    /// Nothing is under way: back into the pool.
    pub fn settle(mut self) {
        self.settled = true;
    }
}

impl<DB: Database> Drop for Lent<DB> {
    fn drop(&mut self) {
        if !self.settled {
            self.connection.close_on_drop();
        }
    }
}
