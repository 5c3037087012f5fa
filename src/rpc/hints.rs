//! Hints that need more than the answer: what was asked, and what the server answers to something else.

use tonic::Code;

use super::status::{NO_SERVICE, NO_SERVICE_ON_PORT, code_name};
use crate::{
    outcome::{Failure, Kind},
    text::{excerpt, leftover},
};

/// Adds a hint if the server does not know the service.
pub(super) fn hint_at_service(service: &str, failure: Failure) -> Failure {
    if failure.kind != Kind::ServiceUnknown {
        return failure;
    }
    if service.is_empty() {
        return failure
            .hint("no -service was given, and the server has no status as a whole; name a service, or try -list");
    }
    let slip = match service.split_once(',') {
        Some((first, rest)) if !first.is_empty() && !rest.trim().is_empty() => {
            let [first, rest] = [first, rest.trim()].map(excerpt);
            Some(format!("the comma is part of the name; write -service={first} -service={rest}"))
        }
        _ => leftover("-service", service),
    };
    if let Some(slip) = slip {
        return failure.hint(slip);
    }
    let service = excerpt(service);
    failure
        .hint(format!("the server does not know the service \"{service}\"; is that its full name (package.Service)?"))
}

/// Whether the server knows no such method, by its status or by that of HTTP.
pub(super) fn is_unimplemented(failure: &Failure) -> bool {
    failure.grpc_code == Some(Code::Unimplemented)
}

/// Adds the hint of a method that is missing. `check` is what the server answers to `Check`.
pub(super) fn hint_at_method(method: &str, failure: Failure, check: Result<i32, Failure>) -> Failure {
    let missing = format!("this server has the health service, but not its method {method}; Check");
    match check {
        Ok(_) | Err(Failure { kind: Kind::ServiceUnknown, .. }) => failure.hint(format!("{missing} works")),
        // The same cause, and perhaps a better hint.
        Err(check) if is_unimplemented(&check) => Failure { hint: check.hint.or(failure.hint), ..failure },
        // Without the service, there would be nothing to protect, or to fail. Other failures may be a proxy's.
        Err(Failure { kind, grpc_code: Some(code), .. })
            if kind == Kind::RpcFailed || matches!(code, Code::Unauthenticated | Code::PermissionDenied) =>
        {
            failure.hint(format!("{missing} answers {}", code_name(code)))
        }
        Err(_) => failure,
    }
}

/// Adds the hints of failures that may be about the `:authority` of the request: a proxy chooses a server by it.
pub(super) fn hint_at_authority(failure: Failure, authority: &str) -> Failure {
    let authority = format!("the authority \"{}\" (-authority sets it)", excerpt(authority));
    let proxy = format!("if a proxy answers here, it may have no route for {authority}");
    match (failure.kind, failure.http_status) {
        // A server that knows no such service mostly says so. A proxy without a route, such as Envoy, says nothing.
        (Kind::Unimplemented, _) if failure.hint.is_none() => failure.hint(format!("{NO_SERVICE}; {proxy}")),
        (Kind::HttpStatus, Some(404)) => failure.hint(format!("{NO_SERVICE_ON_PORT}; {proxy}")),
        (Kind::HttpStatus, Some(421)) => failure.hint(format!("the server does not answer for {authority}")),
        _ => failure,
    }
}
