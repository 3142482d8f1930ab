"""The one table of error types: what ``type`` and ``code`` of a problem document mean, and what to do."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class ErrorType:
    """One error type. ``of_status`` marks the type of all framework errors with this status."""

    status: int
    title: str
    when: str
    remedy: str
    of_status: bool = False


ERROR_TYPES: dict[str, ErrorType] = {
    "malformed": ErrorType(
        status=400,
        title="The request cannot be read",
        when="The body is not one JSON object, holds NaN or Infinity, is nested too deeply, or is cut off.",
        remedy="Send one JSON object in UTF-8. The detail gives line and column where reading stopped.",
        of_status=True,
    ),
    "tenant-not-named": ErrorType(
        status=400,
        title="Say for which tenant you ask",
        when="You are signed in as a person who belongs to several tenants, or to none of the name given.",
        remedy="Send the header Berth-Tenant with the slug of one of your tenants. Keys need no such header.",
    ),
    "not-authenticated": ErrorType(
        status=401,
        title="No usable key came with the request",
        when="There is no key, or it is cut off, unknown, revoked, expired, or made for calling models only.",
        remedy="Send a management key as Authorization: Bearer berth_… The detail says what is wrong.",
        of_status=True,
    ),
    "forbidden": ErrorType(
        status=403,
        title="Your role does not allow this",
        when="Your role in the tenant does not include the action, or you would hand out more than you hold.",
        remedy="Ask an owner or admin of the tenant to do it, or to give you another role.",
        of_status=True,
    ),
    "https-required": ErrorType(
        status=403,
        title="Ask over https",
        when="The request came over plain http. It is not led to https: what it carried went in the open already.",
        remedy="Ask at the same address over https. Revoke the key that was sent, for others may have read it.",
    ),
    "mfa-required": ErrorType(
        status=403,
        title="A second factor is needed",
        when="You ask as a signed-in person without a second factor, and the platform or a tenant demands one.",
        remedy="Set up an authenticator app or a passkey under Security. Management keys need none.",
    ),
    "provider-required": ErrorType(
        status=403,
        title="Sign in by your organisation",
        when="You signed in by a password or a passkey, and your tenant lets members in by a sign-in provider only.",
        remedy="Sign out, then sign in through your organisation. Management keys need no provider.",
    ),
    "over-quota": ErrorType(
        status=403,
        title="A quota would be exceeded",
        when="The tenant's limit on GPUs or endpoints does not leave room for this.",
        remedy="Pause, shrink or delete another endpoint, or ask the operators for a larger quota.",
    ),
    "over-budget": ErrorType(
        status=403,
        title="A budget does not allow this",
        when="What its GPUs would cost until the budget begins anew is more than is left of it, or it stops its owner.",
        remedy="Ask for less, give something back, raise the limit, or wait until resets_at.",
    ),
    "policy-refused": ErrorType(
        status=403,
        title="The tenant's policy does not allow this",
        when="A place, certification, model, licence, class or spend is outside the version that policy_version names.",
        remedy="Ask for what the policy allows, for an exception from it, or an owner or admin to change it.",
    ),
    "not-found": ErrorType(
        status=404,
        title="Not found",
        when="There is no such object, or it belongs to another tenant: both read the same.",
        remedy="Check the id and which tenant your key belongs to.",
        of_status=True,
    ),
    "method-not-allowed": ErrorType(
        status=405,
        title="This cannot be done here",
        when="The path exists, but not for this HTTP method.",
        remedy="The header Allow lists the methods of this path.",
        of_status=True,
    ),
    "not-acceptable": ErrorType(
        status=406,
        title="Only JSON can be given",
        when="The header Accept names no media type that the API can answer in.",
        remedy="Send Accept: application/json, or leave the header out.",
        of_status=True,
    ),
    "not-closable": ErrorType(
        status=409,
        title="The statement cannot be closed yet",
        when="Its month or its grace still runs, usage is not counted yet, an earlier month is open, or the account is "
        "parked.",
        remedy="The detail says what it waits for. Nothing was changed; ask again later.",
    ),
    "not-parked": ErrorType(
        status=409,
        title="The account is not parked",
        when="Somebody let it be billed again already, or it never was parked.",
        remedy="Nothing is to be done: its statements are closed with all others.",
    ),
    "approval-needed": ErrorType(
        status=409,
        title="This needs approval",
        when="A rule of the tenant wants somebody's approval, and the change was begun by no person who could ask.",
        remedy="A member of the tenant makes the change; then the request goes to those who decide.",
    ),
    "conflict": ErrorType(
        status=409,
        title="The present state does not allow this",
        when="The object is being deleted, the tenant would have no owner, or free GPUs do not suffice.",
        remedy="The detail says which state stands in the way. Read the object again before you retry.",
    ),
    "invitation-closed": ErrorType(
        status=409,
        title="This invitation is closed",
        when="It was accepted or revoked, or ran out.",
        remedy="Invite the person again.",
    ),
    "statement-is-final": ErrorType(
        status=409,
        title="This statement is final",
        when="A closed statement would be changed.",
        remedy="What came late is a correction in the open period; look at the newest statement.",
    ),
    "stale": ErrorType(
        status=412,
        title="The object has changed meanwhile",
        when="If-Match names a version of the object that is no longer the present one.",
        remedy="Read the object again, look whether your change still makes sense, and send its new ETag.",
    ),
    "body-too-large": ErrorType(
        status=413,
        title="The body is too large",
        when="The body has more than 1 MiB; that of a tokenizer more than 32 MiB, that of a gateway more than 16 MiB.",
        remedy="Nothing in this API needs so much; split the request.",
        of_status=True,
    ),
    "uri-too-long": ErrorType(
        status=414,
        title="The address is too long",
        when="Path and query together have more than 8 KiB.",
        remedy="Send what you filter by in several requests.",
        of_status=True,
    ),
    "unsupported-media-type": ErrorType(
        status=415,
        title="Only JSON can be read",
        when="The body is announced as something other than JSON.",
        remedy="Send Content-Type: application/json.",
        of_status=True,
    ),
    "invalid": ErrorType(
        status=422,
        title="Some values are not right",
        when="A field is missing, unknown, out of range, or names something that does not exist.",
        remedy="The member errors maps each field to what is wrong with it.",
    ),
    "idempotency-key-reused": ErrorType(
        status=422,
        title="This Idempotency-Key was used for another request",
        when="The same key came with another body within 48 hours.",
        remedy="Use a new key for a new request, and the old one only to repeat the same body.",
    ),
    "order-impossible": ErrorType(
        status=422,
        title="No cluster can satisfy this order",
        when="Residency, certifications, licence, memory or latency rule out every cluster for good.",
        remedy="The member refusals says which demand failed where; alternatives, what could be had.",
    ),
    "throttled": ErrorType(
        status=429,
        title="Too many requests",
        when="One caller asked more often within a minute than the platform allows.",
        remedy="Wait for the seconds in Retry-After; the header RateLimit tells what is left.",
        of_status=True,
    ),
    "headers-too-large": ErrorType(
        status=431,
        title="The headers are too large",
        when="The request has more than 100 headers, or more than 32 KiB of them.",
        remedy="Send fewer cookies and headers; none that Berth reads is long.",
        of_status=True,
    ),
    "internal": ErrorType(
        status=500,
        title="A fault of ours",
        when="Something broke that should not; the request was undone as a whole.",
        remedy="Try again with the same Idempotency-Key; tell the operators when it stays.",
        of_status=True,
    ),
    "cluster-away": ErrorType(
        status=503,
        title="The cluster does not answer",
        when="What you ask for can only be had from the cluster, and it cannot be reached now.",
        remedy="Try again after the seconds in Retry-After. Rows, and endpoints that serve, are not touched.",
    ),
    "secrets-unavailable": ErrorType(
        status=503,
        title="Secrets cannot be sealed or opened now",
        when="The request needs a secret, and the place where the sealing keys are kept does not answer.",
        remedy="Try again with the same Idempotency-Key; nothing was changed. Tell the operators when it stays.",
    ),
    "unavailable": ErrorType(
        status=503,
        title="Usage cannot be taken now",
        when="The database cannot be reached; nothing of the batch was stored.",
        remedy="Send the same batch again: what was stored is never stored twice.",
    ),
    "signing-not-set-up": ErrorType(
        status=503,
        title="This installation has no key to sign with",
        when="Evidence is asked for, and nobody has set keys for signing it.",
        remedy="Ask whoever runs the installation to set BERTH_SIGNING_KEYS.",
    ),
}
