//! The cipher of one direction: AES-128-GCM, with a key for each 65,536 records (`ALTSRP_GCM_AES128_REKEY`).

use ring::{
    aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, Tag, UnboundKey},
    hmac,
};

/// The length of what the handshaker gives as the key: a key to derive keys from, and a mask for nonces.
pub(super) const KEY_DATA_LEN: usize = KDF_KEY_LEN + NONCE_LEN;
/// The length of a record's authentication tag.
pub(super) const TAG_LEN: usize = 16;
/// The length of the key that the others are derived from.
const KDF_KEY_LEN: usize = 32;
/// The length of a key of AES-128.
const KEY_LEN: usize = 16;
/// How many records, as a power of two, have the same key.
const RECORDS_PER_KEY: u32 = 16;
/// Where in the counter its six bytes are that each key is derived from.
const KDF_COUNTER: std::ops::Range<usize> = 2..8;

/// Who seals the records of a direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sender {
    Client,
    Server,
}

/// A record that cannot be sealed or opened: its tag is wrong, or the counter is used up.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused;

/// The keys and the counter of one direction. `Debug` does not show them.
pub(super) struct Cipher {
    kdf_key: hmac::Key,
    nonce_mask: [u8; NONCE_LEN],
    sender: Sender,
    /// The number of the next record; `None` after the last one, as no nonce may come twice.
    next: Option<u64>,
    /// The key of the current records.
    key: LessSafeKey,
}

impl Cipher {
    /// The cipher of what `sender` sends.
    pub(super) fn new(key_data: &[u8; KEY_DATA_LEN], sender: Sender) -> Self {
        Self::at(key_data, sender, 0)
    }

    /// The same, from this record on.
    fn at(key_data: &[u8; KEY_DATA_LEN], sender: Sender, next: u64) -> Self {
        let (kdf_key, mask) = key_data.split_at(KDF_KEY_LEN);
        let kdf_key = hmac::Key::new(hmac::HMAC_SHA256, kdf_key);
        let mut nonce_mask = [0; NONCE_LEN];
        nonce_mask.copy_from_slice(mask);
        let key = derive(&kdf_key, next);
        Self { kdf_key, nonce_mask, sender, next: Some(next), key }
    }

    /// Encrypts a record in its place, and returns its tag.
    ///
    /// # Errors
    /// The counter is used up.
    pub(super) fn seal(&mut self, plaintext: &mut [u8]) -> Result<[u8; TAG_LEN], Refused> {
        let nonce = self.nonce()?;
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::empty(), plaintext).map_err(|_| Refused)?;
        self.advance();
        tag.as_ref().try_into().map_err(|_| Refused)
    }

    /// Decrypts a record in its place: ciphertext and tag. Returns the length of the plaintext, which is at the beginning.
    ///
    /// # Errors
    /// The record is too short, or its tag is wrong, or the counter is used up.
    pub(super) fn open(&mut self, record: &mut [u8]) -> Result<usize, Refused> {
        let length = record.len().checked_sub(TAG_LEN).ok_or(Refused)?;
        let (ciphertext, tag) = record.split_at_mut(length);
        let tag = Tag::try_from(&*tag).map_err(|_| Refused)?;
        let nonce = self.nonce()?;
        self.key.open_in_place_separate_tag(nonce, Aad::empty(), tag, ciphertext, 0..).map_err(|_| Refused)?;
        self.advance();
        Ok(length)
    }

    fn nonce(&self) -> Result<Nonce, Refused> {
        let mut nonce = counter(self.next.ok_or(Refused)?, self.sender);
        nonce.iter_mut().zip(self.nonce_mask).for_each(|(byte, mask)| *byte ^= mask);
        Ok(Nonce::assume_unique_for_key(nonce))
    }

    /// Goes on to the next record, and to the next key where that is due.
    fn advance(&mut self) {
        self.next = self.next.and_then(|next| next.checked_add(1));
        if let Some(next) = self.next.filter(|next| next.trailing_zeros() >= RECORDS_PER_KEY) {
            self.key = derive(&self.kdf_key, next);
        }
    }
}

impl std::fmt::Debug for Cipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cipher").field("sender", &self.sender).field("next", &self.next).finish_non_exhaustive()
    }
}

/// A record's counter: its number, little-endian, and in the highest bit who sends it.
fn counter(record: u64, sender: Sender) -> [u8; NONCE_LEN] {
    let mut counter = [0; NONCE_LEN];
    counter[..8].copy_from_slice(&record.to_le_bytes());
    if sender == Sender::Server {
        counter[NONCE_LEN - 1] = 0x80;
    }
    counter
}

/// The key of this record: the first block of HKDF-Expand (RFC 5869, section 2.3).
fn derive(kdf_key: &hmac::Key, record: u64) -> LessSafeKey {
    let mut context = hmac::Context::with_key(kdf_key);
    context.update(&counter(record, Sender::Client)[KDF_COUNTER]);
    context.update(&[1]);
    let key = UnboundKey::new(&AES_128_GCM, &context.sign().as_ref()[..KEY_LEN]);
    LessSafeKey::new(key.expect("the key has the length of AES-128"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAINTEXT: &[u8] = b"This is plaintext.";
    /// The first and the last records of keys, and the last record of all, sealed by grpc-go 1.85 for the client and the server.
    const SEALED: [(u64, &str, &str); 7] = [
        (
            0,
            "0bf4b432b7f6ea6bd5b98a92f2727c7fa9c2a4183a2aca7905211611babcd93a80d7",
            "e2ac7da39d8dc9c88a2200eab26b62def13f6041a5f15d8701244a1daf12e4af36c0",
        ),
        (
            1,
            "65c66d2f30deec7122c26b83575843e56d03b4763e75ea5b338067dc28fd5915bbad",
            "5ef6c6d5945f90e7e6bef035235a1491a2bbb83f68e5b98ee429c61b5820d42b8cb7",
        ),
        (
            65_535,
            "b6d97d444f69762ff701425f9aeac1b47db9833e988e1d6fe2d354c61609160652ae",
            "7dffb4011ca6b787a7c956dade0dc01a4dd98ea3840a7082cc58a2a0fc824676f4d8",
        ),
        (
            65_536,
            "e98686f52dcf50a32e8cc225fcd66a9fcf375f07f0bcd8d94437ddfcf8f66ce82e64",
            "3b3886547d3263aa5afb861a6265b82db4a7bf6356a29817497ca12b282243da5ecc",
        ),
        (
            65_537,
            "b34098840a7db0632d03ed96c4da808e333323933d950acc633f49e5461d73b09e4d",
            "6c860c167ab7c1e2f5aa0f5b09dce0e7f78adaf2e5481a9b85ae6009727c3a94cd1c",
        ),
        (
            0x1_0001_0000,
            "d6406bb13ca8e40efbf70e08bb19b16bef23eab748d32334c42631c0d197d7b7bc60",
            "1b80e965c252703220df6163920c036bd03d81c8cf62da49cfff81f73d4a49e42add",
        ),
        (
            u64::MAX,
            "28f8a9a99ae79dfd10a00a9d518a75c8f7020ff16e351b2688f2a292a327730770f0",
            "c61a4372d6a84e5e7403ad7c888284d6830b2d922dcf1cf94dfd708159700193e240",
        ),
    ];

    /// The key of all tests: the bytes 0, 1, 2 and so on.
    fn key_data() -> [u8; KEY_DATA_LEN] {
        std::array::from_fn(|index| u8::try_from(index).expect("it is short"))
    }

    fn sealed(cipher: &mut Cipher, plaintext: &[u8]) -> Vec<u8> {
        let mut record = plaintext.to_vec();
        let tag = cipher.seal(&mut record).expect("a record is left");
        record.extend(tag);
        record
    }

    fn bytes(hexadecimal: &str) -> Vec<u8> {
        let pairs = hexadecimal.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("it is ASCII"));
        pairs.map(|pair| u8::from_str_radix(pair, 16).expect("it is hexadecimal")).collect()
    }

    #[test]
    fn records_are_those_of_grpc_go() {
        for (number, client, server) in SEALED {
            for (sender, expected) in [(Sender::Client, client), (Sender::Server, server)] {
                let mut record = sealed(&mut Cipher::at(&key_data(), sender, number), PLAINTEXT);
                assert_eq!(record, bytes(expected), "{sender:?} {number}");
                let length = Cipher::at(&key_data(), sender, number).open(&mut record).expect("it is intact");
                assert_eq!(&record[..length], PLAINTEXT, "{sender:?} {number}");
            }
        }
    }

    #[test]
    fn keys_change_on_the_way() {
        let mut cipher = Cipher::new(&key_data(), Sender::Client);
        for number in 0..=65_537 {
            let record = sealed(&mut cipher, PLAINTEXT);
            if let Some((_, expected, _)) = SEALED.iter().find(|(it, ..)| *it == number) {
                assert_eq!(record, bytes(expected), "{number}");
            }
        }
    }

    #[test]
    fn no_counter_comes_twice() {
        let mut sealer = Cipher::at(&key_data(), Sender::Client, u64::MAX);
        let mut opener = Cipher::at(&key_data(), Sender::Client, u64::MAX);
        let last = sealed(&mut sealer, PLAINTEXT);
        assert_eq!(opener.open(&mut last.clone()), Ok(PLAINTEXT.len()));
        assert_eq!(sealer.seal(&mut PLAINTEXT.to_vec()), Err(Refused));
        assert_eq!(opener.open(&mut last.clone()), Err(Refused));
    }

    #[test]
    fn only_the_next_record_of_the_sender_is_opened() {
        let mut client = Cipher::new(&key_data(), Sender::Client);
        let first = sealed(&mut client, PLAINTEXT);
        let second = sealed(&mut client, b"another");
        let refused = |record: &[u8]| {
            let mut opener = Cipher::new(&key_data(), Sender::Client);
            assert_eq!(opener.open(&mut record.to_vec()), Err(Refused), "{record:?}");
        };
        refused(&second);
        refused(&sealed(&mut Cipher::new(&key_data(), Sender::Server), PLAINTEXT));
        refused(&first[..first.len() - 1]);
        refused(&first[..TAG_LEN - 1]);
        refused(&[]);
        for index in 0..first.len() {
            let mut changed = first.clone();
            changed[index] ^= 1;
            refused(&changed);
        }
        let mut opener = Cipher::new(&key_data(), Sender::Client);
        assert_eq!(opener.open(&mut first.clone()), Ok(PLAINTEXT.len()));
        assert_eq!(opener.open(&mut first.clone()), Err(Refused), "a record that came before");
        assert_eq!(opener.open(&mut second.clone()), Ok(7));
    }
}
