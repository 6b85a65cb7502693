//! Fetching whole objects so that nothing is called damaged which only came wrong once.

use std::future::ready;

use bytes::Bytes;

use crate::blocking::blocking;
use crate::model::key::ObjectKey;
use crate::store::transfer::Transfer;
use crate::store::{Store, StoreError};

/// Fetches an object and decodes it; what does not decode is fetched a second time before that counts.
///
/// A wrong byte or a short answer may be the way's fault. Only what the store gives whole and wrong twice is damaged.
///
/// # Errors
/// The store's, where the object cannot be had; inside, what `decode` says of bytes that came wrong twice.
pub async fn get_sound<T, E>(
    store: &dyn Store,
    key: &ObjectKey,
    transfer: &Transfer,
    mut decode: impl FnMut(&Bytes) -> Result<T, E>,
) -> Result<Result<T, E>, StoreError> {
    get_sound_large(store, key, transfer, |bytes| ready(decode(&bytes))).await
}

/// Does the same for objects that take their time, and tells `transfer` how far it is. One answer at a time is in memory.
///
/// # Errors
/// As for [`get_sound`].
pub async fn get_sound_large<T, E, F: Future<Output = Result<T, E>>>(
    store: &dyn Store,
    key: &ObjectKey,
    transfer: &Transfer,
    mut decode: impl FnMut(Bytes) -> F,
) -> Result<Result<T, E>, StoreError> {
    let first = bounded(store, key, transfer).await?;
    let error = match decode(first.clone()).await {
        Ok(value) => return Ok(Ok(value)),
        Err(error) => error,
    };
    let first = blocking(move || blake3::hash(&first)).await;
    // Somebody may have put something else in its place: where versions are kept, the second one is what was there before.
    store.look_back(key).await?;
    let second = bounded(store, key, transfer).await?;
    let hashed = second.clone();
    Ok(if blocking(move || blake3::hash(&hashed)).await == first { Err(error) } else { decode(second).await })
}

/// Fetches an object, which a store does not give longer than its kind can be; one that does is not believed.
async fn bounded(store: &dyn Store, key: &ObjectKey, transfer: &Transfer) -> Result<Bytes, StoreError> {
    let body = store.get_telling(key, transfer).await?;
    StoreError::check_length(key, body.len() as u64)?;
    Ok(body)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::StoreErrorKind;
    use crate::store::layer::Operation;
    use crate::store::layer::fault::{Fault, FaultStore};
    use crate::store::memory::MemoryStore;

    const BODY: &[u8] = b"what was stored";

    async fn got(faults: &[Fault]) -> Result<Result<(), &'static str>, StoreErrorKind> {
        let (memory, key) = (MemoryStore::default(), ObjectKey::from_listed("config/1"));
        memory.put(&key, Bytes::from_static(BODY)).await.expect("stored");
        let store = FaultStore::new(Arc::new(memory));
        faults.iter().for_each(|fault| store.plan(fault.clone()));
        let decode = |bytes: &Bytes| if bytes == BODY { Ok(()) } else { Err("damaged") };
        get_sound(&store, &key, &Transfer::unheard(), decode).await.map_err(|error| error.kind)
    }

    #[tokio::test]
    async fn what_came_wrong_once_is_right_and_what_came_wrong_twice_is_damaged() {
        let get = || Fault::on(Operation::Get);
        assert_eq!(got(&[]).await, Ok(Ok(())));
        assert_eq!(got(&[get().corrupt(3)]).await, Ok(Ok(())));
        assert_eq!(got(&[get().truncate(3)]).await, Ok(Ok(())));
        assert_eq!(got(&[get().corrupt(3), get().nth(2).corrupt(3)]).await, Ok(Err("damaged")));
        assert_eq!(got(&[get().corrupt(3), get().nth(2).truncate(3)]).await, Ok(Err("damaged")));
        let cut_off = get().nth(2).fail_before(StoreErrorKind::Unavailable);
        assert_eq!(got(&[get().corrupt(3), cut_off]).await, Err(StoreErrorKind::Unavailable), "nothing is known");
    }
}
