//! Which messages the resolver accepts as the answer, and what it reads from them.

use super::{
    Answer, at_once, both, look_up,
    name_server::{A, Asked, record, server},
    only_a, questions, run, summary,
};

#[test]
fn messages_that_do_not_match_the_question_are_ignored() {
    let forgeries: [fn(&Asked<'_>) -> Vec<u8>; 7] = [
        // Another ID.
        |asked| {
            let mut answer = asked.answer(0, &[(A, &[6, 6, 6, 6])]);
            answer[0] ^= 1;
            answer
        },
        // Another name.
        |asked| {
            let mut answer = asked.answer(0, &[(A, &[6, 6, 6, 6])]);
            answer[13] ^= 1;
            answer
        },
        // Another type.
        |asked| {
            let mut answer = asked.answer(3, &[]);
            let length = answer.len();
            answer[length - 3] ^= 0x1d;
            answer
        },
        // Another class.
        |asked| {
            let mut answer = asked.answer(3, &[]);
            let length = answer.len();
            answer[length - 1] = 3;
            answer
        },
        // Without a question.
        |asked| {
            let mut answer = asked.answer(3, &[])[..12].to_vec();
            answer[5] = 0;
            answer
        },
        // A query.
        |asked| asked.packet.to_vec(),
        // Too short.
        |asked| asked.packet[..7].to_vec(),
    ];
    for (number, forged) in forgeries.into_iter().enumerate() {
        run(async {
            let (dns, _) = server(move |asked| vec![(0, forged(asked)), (20, asked.address())]).await;
            assert_eq!(look_up(&[dns], "", "api", 5000).await.answer, Some(both()), "{number}");
            let (dns, _) = server(move |asked| at_once(forged(asked))).await;
            let lookup = look_up(&[dns], "", "api", 300).await;
            assert_eq!(lookup.answer, None, "{number}");
            assert_eq!(summary(&lookup.exchanges), format!("{dns} answered another question"), "{number}");
        });
    }
}

#[test]
fn question_matches_in_upper_case() {
    run(async {
        let (dns, _) = server(|asked| {
            let mut answer = asked.address();
            answer[13].make_ascii_uppercase();
            at_once(answer)
        })
        .await;
        assert_eq!(look_up(&[dns], "", "api", 5000).await.answer, Some(both()));
    });
}

#[test]
fn malformed_answers_are_ignored() {
    // A record that ends early, one that is too short for an address, a pointer to itself, a pointer past the end.
    let bodies: [&[u8]; 4] = [
        &[0xc0, 12, 0, 1, 0, 1, 0, 0],
        &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 3, 10, 0, 0],
        &[0xc0, 21, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, 1],
        &[0xff, 0xff, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, 1],
    ];
    for body in bodies {
        run(async {
            let (dns, _) = server(move |asked| {
                let mut answer = asked.answer(0, &[]);
                answer[7] = 1;
                answer.extend(body);
                vec![(0, answer), (20, asked.answer(0, &[(A, &[10, 0, 0, 1])]))]
            })
            .await;
            let lookup = look_up(&[dns], "", "api", 300).await;
            assert_eq!(lookup.answer, Some(only_a()), "{body:02x?}");
        });
    }
}

#[test]
fn cnames_are_followed_within_an_answer() {
    /// `name.` with one label.
    fn label(name: &str) -> Vec<u8> {
        [&[u8::try_from(name.len()).expect("it is short")], name.as_bytes(), &[0]].concat()
    }
    run(async {
        let (dns, _) = server(|asked| {
            let mut answer = asked.answer(0, &[(5, &label("b")), (A, &[6, 6, 6, 6])]);
            answer[7] = 4;
            answer.extend([label("c"), record(A, &[10, 0, 0, 1]), label("b"), record(5, &label("c"))].concat());
            at_once(answer)
        })
        .await;
        // The address next to the first CNAME is not that of the last name.
        assert_eq!(look_up(&[dns], "", "api", 5000).await.answer, Some(only_a()));
        let (circle, _) = server(|asked| {
            let mut answer = asked.answer(0, &[(5, &label("b"))]);
            answer[7] = 2;
            answer.extend([label("b"), record(5, &label("api"))].concat());
            at_once(answer)
        })
        .await;
        let lookup = look_up(&[circle], "", "api", 300).await;
        assert_eq!(lookup.answer, None);
        assert_eq!(summary(&lookup.exchanges), format!("{circle} sent a malformed answer"));
    });
}

#[test]
fn truncated_answer_is_retried_over_tcp() {
    run(async {
        let (dns, log) = server(|asked| {
            let cut = asked.answer_with(0x83, 0, &[(A, &[6, 6, 6, 6])]);
            at_once(if asked.over_tcp { asked.address() } else { cut })
        })
        .await;
        let lookup = look_up(&[dns], "", "api", 5000).await;
        assert_eq!(lookup.answer, Some(both()));
        assert!(lookup.exchanges.iter().all(|it| it.over_tcp));
        assert_eq!(questions(&log), ["api A", "api A TCP", "api AAAA", "api AAAA TCP"]);
    });
    run(async {
        let (dns, log) = server(|asked| at_once(asked.address())).await;
        assert_eq!(look_up(&[dns], "options use-vc", "api", 5000).await.answer, Some(both()));
        assert_eq!(questions(&log), ["api A TCP", "api AAAA TCP"]);
    });
    run(async {
        let (dns, _) =
            server(|asked| if asked.over_tcp { Vec::new() } else { at_once(asked.answer_with(0x83, 0, &[])) }).await;
        let lookup = look_up(&[dns], "", "api", 5000).await;
        assert_eq!(lookup.answer, Some(Answer::Nothing));
        assert_eq!(summary(&lookup.exchanges), format!("{dns} closed the connection over TCP"));
    });
}

#[test]
fn large_answer_arrives_over_tcp() {
    run(async {
        let (dns, _) = server(|asked| {
            if !asked.over_tcp {
                return at_once(asked.answer_with(0x83, 0, &[]));
            }
            let mut answer = asked.answer(0, &[]);
            if asked.rtype == A {
                answer[6..8].copy_from_slice(&4000_u16.to_be_bytes());
                for number in 0..4000_u16 {
                    let [high, low] = number.to_be_bytes();
                    answer.extend([&[0xc0, 12], &record(A, &[10, 1, high, low])[..]].concat());
                }
            }
            at_once(answer)
        })
        .await;
        let lookup = look_up(&[dns], "", "api", 5000).await;
        assert!(matches!(lookup.answer, Some(Answer::Addresses(ref it)) if it.len() == 4000));
    });
}
