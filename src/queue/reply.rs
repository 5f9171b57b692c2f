//! Batches in replies.

use gateway_core::queue::{Batch, BatchId};

use crate::server::reply::Reply;

/// `[batch-id, [record …], deliveries]`
pub fn batch(reply: &Reply, id: BatchId, batch: &Batch) {
    reply.array(3).bytes(id.to_string()).array(batch.size().records as usize);
    batch.visit(&mut |record, _| {
        reply.bytes(record);
    });
    reply.count(batch.deliveries());
}
