//! An answer whose arguments are there already as they go over the wire.
#![allow(unsafe_code)]

use zbus::Message;
use zbus::message::Header;
use zbus::wire::Endian;

/// The answer to `call` with the arguments that `like` has.
///
/// # Errors
/// Where `call` cannot be answered.
pub fn answer_like(call: &Header<'_>, like: &Message) -> zbus::Result<Message> {
    let body = like.body();
    let endian = Endian::from(like.primary_header().endian_sig());
    let answer = Message::method_return(call).endian(endian);
    // SAFETY: the bytes are the body that zbus wrote for this signature in this order of bytes, and no descriptors were
    // with it: `like` has none.
    unsafe { answer.build_raw_body(body.data().bytes(), body.signature(), Vec::new()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn an_answer_has_the_arguments_whatever_the_callers_order_of_bytes() {
        let arguments: HashMap<&str, (u32, &str)> = HashMap::from([("a", (7, "b"))]);
        let like = Message::signal("/", "a.b", "C").build(&arguments).unwrap();
        for endian in [Endian::Little, Endian::Big] {
            let call = Message::method_call("/x", "Y").sender(":1.7").endian(endian).build(&()).unwrap();
            let answer = answer_like(&call.header(), &like).unwrap();
            let bytes = answer.data().to_vec();
            let read: HashMap<String, (u32, String)> = answer.body().deserialize().unwrap();
            assert_eq!(read, HashMap::from([("a".to_owned(), (7, "b".to_owned()))]));
            assert_eq!(answer.header().reply_serial(), Some(call.primary_header().serial_num()));
            assert_eq!(answer.header().destination().map(ToString::to_string).as_deref(), Some(":1.7"));
            assert!(bytes.ends_with(like.body().data().bytes()));
        }
    }
}
