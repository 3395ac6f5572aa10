/** The three things that a call that failed may have done. */
export const executed = "executed";
export const notExecuted = "not executed";
export const unknown = "unknown";

const outcomes = { Executed: executed, NotExecuted: notExecuted, Unknown: unknown };

/**
 * GoverseError is why a call failed. code is the gate's, as OBJECT_NOT_FOUND, or of this
 * client: TIMEOUT, CANCELED, CLOSED, OVERLOADED, ...; outcome says whether the call ran.
 */
export class GoverseError extends Error {
  constructor(message, { code = "CALL_FAILED", outcome = unknown, kind, retryAfter, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "GoverseError";
    this.code = code;
    this.outcome = outcome;
    this.kind = kind; // which CONFLICT: CALL_ID_REUSED, CALL_SETTLED, ...
    this.retryAfter = retryAfter; // milliseconds, where the gate says when to come again
  }
}

const passing = ["NOT_READY", "OVERLOADED", "TIMEOUT"];

/** Whether the call surely did not run, and may well run a little later. */
export function isPassing(error) {
  return error.outcome === notExecuted && passing.includes(error.code);
}

/** Whether a gate has said that it does not take what was asked, and surely will say so again. */
export function isRefusal(error) {
  return error.outcome === notExecuted && !passing.includes(error.code);
}

/** Whether others, or the same a little later, may be let in. */
export function isCredentials(error) {
  return error.code === "UNAUTHENTICATED" || error.code === "ACCESS_DENIED";
}

/** The error that a gate tells as {error, code, outcome, kind}. */
export function errorOf(told, retryAfter) {
  return new GoverseError(String(told.error), {
    code: typeof told.code === "string" ? told.code : "CALL_FAILED",
    outcome: outcomes[told.outcome] ?? unknown,
    kind: told.kind,
    retryAfter: told.retryAfterMillis > 0 ? told.retryAfterMillis : retryAfter,
  });
}

/** What ends a connection: a call on it that is not answered may have run. */
export function lostConnection(why, cause) {
  return new GoverseError(`the connection to the gate was lost: ${why}`, { code: "UNKNOWN_OUTCOME", outcome: unknown, cause });
}
