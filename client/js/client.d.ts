/** What a call that failed may have done. */
export type Outcome = "executed" | "not executed" | "unknown";

/** Why a call failed. */
export class GoverseError extends Error {
  constructor(message: string, details?: { code?: string; outcome?: Outcome; kind?: string; retryAfter?: number; cause?: unknown });
  /** The gate's word, as OBJECT_NOT_FOUND, or the client's own: TIMEOUT, CANCELED, CLOSED, OVERLOADED, TOO_LARGE, INVALID_JSON, UNKNOWN_OUTCOME. */
  readonly code: string;
  /** Whether the call ran. */
  readonly outcome: Outcome;
  /** Which CONFLICT: CALL_ID_REUSED, EXPIRED_CALL_ID, CALL_SETTLED, ... */
  readonly kind?: string;
  /** Milliseconds after which to come again, where the gate says so. */
  readonly retryAfter?: number;
}

/** refused: no gate takes what this client asks, and it asks no more, unless it is told to reconnect. */
export type State = "connecting" | "open" | "waiting" | "refused" | "closed";

export interface StateChange {
  state: State;
  /** When waiting: the time of the next try, in Unix milliseconds; else 0. */
  retryAt: number;
  /** Why the last connection ended or was not had. */
  error: Error | null;
  clientId: string;
}

/** A message that an object pushed. */
export interface Push<M = unknown> {
  /** Its full name, as "chat.ChatMessage". */
  type: string;
  /** The message; undefined where its node could not write it as JSON, or an older gate has only the payload. */
  message: M;
  /** The base64 of its google.protobuf.Any, in place of message. */
  payload?: string;
  /** Its number in the session, from 1; undefined where sessions are not resumed. */
  seq?: number;
}

/** The pushes from..to are lost: what they told is to be read anew. to is 0 where nobody knows how many. */
export interface Reset {
  from: number;
  to: number;
  reason: string;
}

export type Headers = Record<string, string>;

export interface Options {
  /** "auto": a WebSocket, and Server-Sent Events where none opens. */
  transport?: "auto" | "websocket" | "sse";
  /** The constructor to use, where there is no global one or it is not the one wanted; null for none. */
  WebSocket?: (new (url: string) => any) | null;
  /** Credentials, as {Authorization: "Bearer …"}; a function is asked before each connection. */
  headers?: Headers | (() => Headers | undefined | Promise<Headers | undefined>);
  /** Whether to go to gates that a leaving gate names, though they are not among the URLs: never from https: to http:. Default false. */
  follow?: boolean;
  /** Milliseconds for a call that says nothing else. Default 35,000. */
  callTimeout?: number;
  /** Milliseconds until an attempt to connect is given up. Default 10,000. */
  connectTimeout?: number;
  /** Milliseconds of silence after which a connection is held to be dead. Default 50,000. */
  silence?: number;
  /** How many calls may wait. One more is OVERLOADED. Default 1,000. */
  queue?: number;
  /** The first and the longest pause between attempts to connect, in milliseconds. Default 500 and 15,000. */
  backoff?: { first?: number; longest?: number };
}

export interface CallOptions {
  /** Milliseconds, all attempts together. */
  timeout?: number;
  /** Ends the wait for the answer; the call may run nevertheless, as the error says. */
  signal?: AbortSignal;
}

export interface OnceOptions extends CallOptions {
  /** The call runs once, however often it is made with this id: of newCallId, or the program's own. */
  callId?: string;
}

/** What became of a call that was settled: SKIPPED never runs. */
export type Verdict<R = any> =
  | { status: "SUCCESS"; response: R }
  | { status: "FAILED"; error: string }
  | { status: "SKIPPED" };

/** What a subscription brings: a snapshot stands for all before it, also as a reset where changes may be missing. */
export type Published<S = any, C = S> =
  | { version: string; snapshot: S; reset?: undefined; change?: undefined }
  | { version: string; snapshot: S; reset: true; reason: string; change?: undefined }
  | {
      version: string;
      change: C;
      /** The base64 of the change's Any, where no node could write it as JSON: then change is undefined. */
      payload?: string;
      snapshot?: undefined;
      reset?: undefined;
    };

/** Ends what it was returned for. */
export type Stop = () => void;

/** A service: each method takes a request and returns a response. */
export type Service<S> = { [M in keyof S]: (request: any) => any };

/** The methods of a service as its objects have them. */
export type Ref<S extends Service<S>> = {
  readonly [M in keyof S]: (request?: Parameters<S[M]>[0], options?: OnceOptions) => Promise<Awaited<ReturnType<S[M]>>>;
};

/** connect makes a client of one gate or of several. It returns at once: calls wait until it is connected. */
export function connect(urls: string | URL | readonly (string | URL)[], options?: Options): Client;

/** An object as a thing with methods: ref<ChatRoom>(client, "ChatRoom", "tea").Join({ userName: "ann" }). */
export function ref<S extends Service<S> = Record<string, (request: any) => any>>(client: Client, type: string, id: string): Ref<S>;

/** A client of a cluster. It stays connected until it is closed. */
export class Client {
  constructor(urls: string | URL | readonly (string | URL)[], options?: Options);
  readonly state: State;
  readonly retryAt: number;
  readonly error: Error | null;
  /** The gate's name for this client's session; "" before the first. */
  readonly clientId: string;

  /** Resolves as soon as the client is connected. Rejects when it is refused or closed before. */
  ready(): Promise<void>;
  /** Calls a method of an object. Fails with a GoverseError. */
  call<R = any, Q = any>(type: string, id: string, method: string, request?: Q, options?: OnceOptions): Promise<R>;
  /** Creates an object, under an id of its own making if there is none, and returns the id. */
  create(type: string, id?: string, options?: CallOptions): Promise<string>;
  /** Deletes an object. To delete what is not there does no harm. */
  delete(type: string, id: string, options?: CallOptions): Promise<void>;
  /** Ends the doubt about a call that had a call id. */
  settle<R = any>(type: string, id: string, callId: string, options?: CallOptions): Promise<Verdict<R>>;
  /** An id for a call: a UUID of version 7 by the gate's time. Good for 23 hours. */
  newCallId(): string;

  /** Calls f for each push of a type; "*" is any. */
  onPush<M = any>(type: string, f: (message: M, push: Push<M>) => void): Stop;
  /** Calls f when pushes were lost. */
  onReset(f: (reset: Reset) => void): Stop;
  /** Calls f at each change of state. */
  onState(f: (change: StateChange) => void): Stop;
  /** Calls f whenever the gate was heard: at least every 20 s while connected, also in a page that nobody sees. */
  onHeard(f: () => void): Stop;
  /** Iterates over pushes and resets, in order. At most limit wait, 1,000 by default; then the oldest are lost, and a reset says so. */
  pushes(options?: { limit?: number }): AsyncIterableIterator<{ push: Push<any>; reset?: undefined } | { reset: Reset; push?: undefined }>;

  /**
   * Follows an object of a type that publishes: first a snapshot of its state, then each change. At most limit wait,
   * 1,000 by default; then a reset stands for them. Needs a WebSocket. Ends with an error when the gate refuses it.
   */
  subscribe<S = any, C = S>(type: string, id: string, options?: { limit?: number }): AsyncIterableIterator<Published<S, C>>;

  /** Tries to connect now, if the client waits or was refused. */
  reconnect(): void;
  /** Ends the client. Calls that have no answer fail: CLOSED. */
  close(): void;
}
