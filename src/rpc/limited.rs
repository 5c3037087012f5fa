//! Decodes messages with a limited number of parts. A part takes much more memory decoded than the two bytes that it may have on
//! the wire.

use std::marker::PhantomData;

use prost::{DecodeError, Message, bytes::Buf};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder},
};
use tonic_prost::{ProstCodec, ProstEncoder};

use crate::outcome::Failure;

/// A message whose parts are counted before it is decoded.
pub(crate) trait Limited: Message + Default + 'static {
    /// The same message with `()` for each part, which takes no memory.
    type Count: Message + Default;

    /// Says whether it has too many parts.
    ///
    /// # Errors
    /// It has.
    fn check(count: &Self::Count) -> Result<(), Failure>;
}

/// Sends requests of the type `T`, and receives limited messages of the type `U`.
pub(crate) struct LimitedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> LimitedCodec<T, U> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T: Message + Default + 'static, U: Limited> Codec for LimitedCodec<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = LimitedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::default().encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        LimitedDecoder(PhantomData)
    }
}

pub(crate) struct LimitedDecoder<U>(PhantomData<U>);

impl<U: Limited> Decoder for LimitedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let malformed = |error: DecodeError| Status::internal(error.to_string());
        let message = message.copy_to_bytes(message.remaining());
        U::check(&U::Count::decode(message.clone()).map_err(malformed)?)
            .map_err(|failure| Status::from_error(Box::new(failure)))?;
        U::decode(message).map(Some).map_err(malformed)
    }
}
