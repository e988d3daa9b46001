// What generated clients run on: connections that come back, requests, streams, rooms. Generated files have it
// compacted (compact.py), without the regions that their API does not use. No event's method begins with `_` and a
// letter (../identifiers.py). ES2020, types that can be erased, no declarations beside ECMAScript's.

export type SocketState = "connecting" | "open" | "waiting" | "closed";

export interface SocketStatus {
  state: SocketState;
  /** Attempts that failed in a row. */
  attempt: number;
  code?: number;
  reason?: string;
  error?: unknown;
  /** Until the next attempt. */
  delayMs?: number;
}

/** A function is called before each attempt to connect. */
export type Provided<T> = T | (() => T | Promise<T>);

export interface SocketLike {
  readonly readyState: number;
  onopen: unknown;
  onmessage: unknown;
  onerror: unknown;
  onclose: unknown;
  // #region binary
  binaryType: unknown;
  send(data: ArrayBuffer | ArrayBufferView): void;
  // #endregion
  send(text: string): void;
  close(code?: number, reason?: string): void;
}

export interface SocketOptions<Query = { [key: string]: unknown }> {
  /** The global one, or that of `ws` or undici. */
  WebSocket?: new (url: string, protocols?: string[]) => SocketLike;
  /** What `{name}` in the URL stands for. */
  path?: { readonly [name: string]: string | number };
  query?: Provided<Query>;
  protocols?: Provided<readonly string[]>;
  /** Sent in the query. */
  token?: Provided<string>;
  /** Of each request. */
  timeoutMs?: number;
  /** Messages that wait for a connection: 100. */
  maxQueued?: number;
  /** Between attempts: from 1000 up to 30000. */
  minDelayMs?: number;
  maxDelayMs?: number;
  connectTimeoutMs?: number;
  /** Of silence, until the server is asked whether it is there: 30000. 0: never. */
  heartbeatMs?: number;
  /** Whether a close code is the end. */
  endsAt?: (code: number) => boolean;
}

export interface RequestOptions {
  signal?: RequestSignal;
  timeoutMs?: number;
  /** Sent again after a lost connection or a rate limit: it may be done twice. */
  retry?: boolean;
}

export interface RequestSignal {
  readonly aborted: boolean;
  readonly reason?: unknown;
  addEventListener(type: "abort", listener: () => void): void;
  removeEventListener(type: "abort", listener: () => void): void;
}

export interface ErrorDetail {
  type: string;
  loc: (string | number)[];
  msg: string;
  input?: unknown;
  ctx?: { [key: string]: unknown };
}

/** `code` is the server's, or `connection_lost`, `closed`, `queue_full`, `no_answer`, `aborted`. */
export class RequestError extends Error {
  readonly code: string;
  readonly errors: readonly ErrorDetail[];
  readonly details: unknown;
  readonly retryAfterMs: number | undefined;
  /** Of an error without a promise. */
  event: string | undefined;
  constructor(code: string, message?: string, errors: readonly ErrorDetail[] = [], retryAfterS?: number) {
    super(message || errors.map(error => error.msg).join("; ") || code);
    this.name = "RequestError";
    this.code = code;
    this.errors = errors;
    this.retryAfterMs = retryAfterS && retryAfterS * 1000;
    const details = errors[0]?.ctx;
    this.details = details;
    for (const key in details) if (!(key in this)) (this as Fields)[key] = details[key];
  }
}

export interface SocketOpening {
  reconnected: boolean;
  // #region rooms
  resumed: ResumedRooms;
  // #endregion
}
// #region rooms
export interface RoomPosition {
  seq: number;
  epoch: string;
}
export interface ResumedRooms {
  [room: string]: { recovered: boolean; seq?: number; epoch?: string; code?: string };
}
/** null: nobody knows how many. */
export interface RoomGap {
  room: string | null;
  dropped: number | null;
}
export interface PresenceMembers {
  [id: string]: { [key: string]: unknown };
}
export interface PresenceState {
  room: string;
  members: PresenceMembers;
}
export interface PresenceDiff {
  room: string;
  joins: PresenceMembers;
  leaves: PresenceMembers;
}
// #endregion
export type UploadItems<T> = AsyncIterable<T> | Iterable<T>;
export type NoParams = { [key: string]: never };

interface Contract {
  type: string;
  ref: string;
  // #region apart
  // The key of what the fields are apart in, and the parts of messages that are arrays.
  data?: string;
  parts?: readonly string[];
  // #endregion
  token: string;
  protocols: readonly string[];
  cancel: readonly string[];
  errors: { readonly [code: string]: typeof RequestError };
}

type Fields = { [key: string]: any };
type Listener = (value: any) => unknown;
type Timer = () => void;
type Call = [event: string, params: object | undefined, options?: RequestOptions, items?: UploadItems<unknown>];

// A request, a stream, or an event that nobody answers, from its call to its end.
interface Exchange {
  readonly ref: number;
  readonly event: string;
  readonly text: string;
  readonly retry: boolean;
  // A message ends a request, `complete` a stream, and what is told is over when it was sent.
  readonly kind: "request" | "stream" | "told";
  take(message: any): void;
  fail(error: any): void;
  // Takes back its timer and its place at a signal.
  release?: () => void;
  // The timer until it is sent again.
  again?: Timer;
  // #region uploads
  sent?: () => void;
  more?: (items: number) => void;
  // #endregion
}

// What of its surroundings is used where it exists; no declarations of browsers or of Node are needed.
const here: any = globalThis;
const nothing = (): void => {};

/** To come back would change nothing. */
export function endsAt(code: number): boolean {
  if (code > 3999) return code !== 4408 && code !== 4429;
  return code === 1000 || code === 1003 || (code > 1006 && code < 1010);
}

// A listener's failure is the application's own, and ends nothing here.
function report(error: unknown): void {
  (here.reportError || here.console.error)(error);
}

function tell(listener: Listener, value: unknown): any {
  try {
    const told = listener(value) as any;
    return told && typeof told.then === "function" ? told.then(undefined, report) : told;
  } catch (error) {
    return report(error);
  }
}

// Added twice, it is called twice, and each is taken away by its own function.
function enlist(listeners: Set<Listener>, listener: Listener): () => void {
  const own: Listener = value => listener(value);
  listeners.add(own);
  return () => void listeners.delete(own);
}

function tellAll(listeners: Iterable<Listener>, value: unknown): any[] {
  return [...listeners].map(listener => tell(listener, value));
}

// A timer for which a machine's sleep counts, and a clock that is set back does not.
function after(ms: number, run: () => void): Timer {
  let timer: unknown;
  let at = Date.now();
  const arm = (): void => {
    const step = Math.min(ms, 1000);
    timer = here.setTimeout(() => {
      const now = Date.now();
      ms -= Math.max(step, now - at);
      at = now;
      if (ms > 0) arm();
      else run();
    }, step);
  };
  arm();
  return () => here.clearTimeout(timer);
}

function provided(value: any): any {
  return typeof value === "function" ? value() : value;
}

// #region apart
// A message whose fields are apart, as if they were not. What is no object is all there is.
function together(data: string, { [data]: fields, ...rest }: Fields): any {
  if (fields !== undefined && (!fields || typeof fields !== "object" || Array.isArray(fields))) return fields;
  return { ...rest, ...fields, ...("seq" in rest && { seq: rest.seq }) };
}
// #endregion

class Emitter<Pushes> {
  protected _listeners = new Map<string, Set<Listener>>();
  /** Returns what ends it. */
  on<T extends keyof Pushes & string>(type: T, listener: (message: Pushes[T]) => unknown): () => void {
    let found = this._listeners.get(type);
    if (!found) this._listeners.set(type, (found = new Set()));
    return enlist(found, listener);
  }
  once<T extends keyof Pushes & string>(type: T, listener: (message: Pushes[T]) => unknown): () => void {
    const off = this.on(type, message => {
      off();
      return listener(message);
    });
    return off;
  }
  _emit(type: string, message: unknown): boolean {
    return tellAll(this._listeners.get(type) || [], message).length > 0;
  }
}

// #region rooms
export type PresenceMap = ReadonlyMap<string, { [key: string]: unknown }>;
/** Keeps its place until it is closed: what was missed while the connection was lost comes, and nothing twice. */
export class RoomView<Pushes> extends Emitter<Pushes & { members: PresenceMap }> {
  readonly name: string;
  readonly members: PresenceMap = new Map();
  position: RoomPosition | undefined;
  _isOpen = false;
  // The newest message that has come, and whether what is missing behind it was told.
  private _seen = 0;
  private _isToldOfGap = false;
  private readonly _client: Emitter<Pushes>;
  // The key of a message's name.
  private readonly _key: string;
  constructor(name: string, client: Emitter<Pushes>, key: string) {
    super();
    this.name = name;
    this._client = client;
    this._key = key;
  }
  /** The room was left: it is not resumed. */
  close(): void {
    this._isOpen = false;
    this.position = undefined;
    this._listeners.clear();
    (this.members as Map<string, object>).clear();
  }
  // Whether a message is for listeners: one that has come before is not.
  _take(type: string, message: Fields): boolean {
    const { seq } = message;
    if (type === "presence_state" || type === "presence_diff") this._meet(message);
    else if (type === "gap") this._isToldOfGap = true;
    else if (type === "room_position") this._at(message as RoomPosition);
    else if (typeof seq === "number" && this.position) {
      if (this._isOpen && seq <= this._seen) return false;
      this.position.seq = this._seen = seq;
      this._isToldOfGap = false;
    }
    return true;
  }
  private _meet({ members, joins = members, leaves = {} }: Fields): void {
    const known = this.members as Map<string, object>;
    if (members) known.clear();
    for (const id of Object.keys(leaves)) known.delete(id);
    for (const id of Object.keys(joins)) known.set(id, joins[id]);
    this._emit("members", known);
  }
  // Where the room is now. What lies between that and what has come is missing.
  _at({ seq, epoch }: RoomPosition): void {
    const before = this.position;
    const isSame = before && before.epoch === epoch;
    if (before && !(isSame && seq <= this._seen)) this._gap(isSame ? seq - this._seen : null);
    if (!isSame) this._seen = seq;
    this.position = { seq, epoch };
  }
  _gap(dropped: number | null): void {
    const gap = { [this._key]: "gap", room: this.name, dropped };
    if (this._isOpen && !this._isToldOfGap) {
      this._client._emit("gap", gap);
      this._emit("gap", gap);
    }
    this._isToldOfGap = true;
  }
}
// #endregion

export class SocketClient<
  Pushes,
  Calls extends { [type in keyof Calls]: [unknown, unknown] } = {},
> extends Emitter<Pushes> {
  private readonly _options: SocketOptions<any>;
  private readonly _contract: Contract;
  private readonly _url: string;
  private _status: SocketStatus = { state: "connecting", attempt: 0 };
  // The present attempt, and its socket. What others tell is of the past, and not heard.
  private _attempt: object | undefined;
  private _socket: SocketLike | undefined;
  private _openedAt = 0;
  private _wasOpen = false;
  // Since it is there, what is asked is sent at once.
  private _opening: SocketOpening | undefined;
  // The one thing that is waited for: a connection, the next attempt, or a sign of life.
  private _timer: Timer = nothing;
  private _heard = false;
  private _failed = 0;
  private _notBefore = 0;
  private _ref = 0;
  private _queue: Exchange[] = [];
  private _pending = new Map<number, Exchange>();
  // The latest events that nobody answers, by ref: an error may.
  private readonly _told = new Map<number, string>();
  private readonly _states = new Set<Listener>();
  private readonly _openers = new Set<Listener>();
  // #region binary
  private readonly _binaries = new Set<Listener>();
  // #endregion
  // #region rooms
  private readonly _rooms = new Map<string, RoomView<Pushes>>();
  // Until those are resumed that could not be.
  private _later: Timer = nothing;
  // #endregion
  // #region calls
  private readonly _handlers = new Map<string, (question: any, context: { signal: RequestSignal }) => unknown>();
  private readonly _asked = new Map<string, { readonly signal: RequestSignal; abort(reason: unknown): void }>();
  // #endregion

  constructor(url: string, options: SocketOptions<any>, contract: Contract) {
    super();
    this._options = options;
    this._contract = contract;
    if (!options.WebSocket && !here.WebSocket) {
      throw new TypeError("there is no global WebSocket: pass one as the option WebSocket");
    }
    const path = new Map(Object.entries(options.path || {}));
    const filled = url.replace(/\{(\w+)\}/g, (whole, name) => {
      if (!path.has(name)) throw new TypeError(`the option path has nothing for ${whole} in ${url}`);
      return encodeURIComponent(path.get(name)!);
    });
    const parsed = new here.URL(filled, here.location?.href);
    parsed.protocol = parsed.protocol.replace("http", "ws");
    parsed.hash = "";
    this._url = parsed.href;
    this._watch("addEventListener");
    void this._connect();
  }

  get state(): SocketState {
    return this._status.state;
  }
  get status(): SocketStatus {
    return this._status;
  }
  onState(listener: (status: SocketStatus) => unknown): () => void {
    return enlist(this._states, listener);
  }
  /** What it asks and awaits goes before all that waited. Called at once if there is a connection. */
  onOpen(listener: (opening: SocketOpening) => unknown): () => void {
    if (this._opening) tell(listener, this._opening);
    return enlist(this._openers, listener);
  }
  // #region calls
  /** Answers what the server asks; what it throws refuses. */
  handle<T extends keyof Calls & string>(
    type: T,
    handler: (question: Calls[T][0], context: { signal: RequestSignal }) => Calls[T][1] | Promise<Calls[T][1]>,
  ): () => void {
    this._handlers.set(type, handler);
    return () => {
      if (this._handlers.get(type) === handler) this._handlers.delete(type);
    };
  }
  // #endregion
  // #region rooms
  /** Does not enter it: that is an event. */
  room(name: string): RoomView<Pushes> {
    const room = this._room(name);
    room._isOpen = true;
    return room;
  }
  // #endregion
  /** For good. */
  close(code = 1000, reason = ""): void {
    this._socket?.close(code, reason);
    this._end({ state: "closed", attempt: 0, code, reason });
  }

  protected _request(...call: Call): Promise<any> {
    return this._promise("request", call);
  }
  protected _tell(...call: Call): Promise<void> {
    return this._promise("told", call);
  }
  // #region binary
  protected _sendBytes(data: ArrayBuffer | ArrayBufferView): boolean {
    const isOpen = !!this._opening && this._isOpen();
    if (isOpen) this._socket!.send(data);
    return isOpen;
  }
  protected _onBytes(listener: (data: Uint8Array) => unknown): () => void {
    return enlist(this._binaries, listener);
  }
  // #endregion
  // #region streams
  protected _stream(...call: Call): AsyncIterableIterator<any> {
    const ready: unknown[] = [];
    const waiting: { resolve(result: IteratorResult<unknown>): void; reject(error: unknown): void }[] = [];
    const done: IteratorResult<unknown> = { done: true, value: undefined };
    let ask: Exchange | undefined;
    let isBegun = false;
    let isOver = false;
    let failure: { error: unknown } | undefined;
    const serve = (): void => {
      while (waiting.length && (ready.length || isOver)) {
        const { resolve, reject } = waiting.shift()!;
        if (ready.length) resolve({ done: false, value: ready.shift() });
        else if (failure) {
          reject(failure.error);
          failure = undefined;
        } else resolve(done);
      }
    };
    const take = (message: Fields): void => {
      if (message[this._contract.type] === "complete") isOver = true;
      else ready.push(message);
      serve();
    };
    const fail = (error: unknown): void => {
      isOver = true;
      failure = { error };
      serve();
    };
    return {
      next: () =>
        new Promise((resolve, reject) => {
          waiting.push({ resolve, reject });
          if (!isBegun) {
            isBegun = true;
            ask = this._begin("stream", call, take, fail);
          }
          serve();
        }),
      return: async () => {
        if (ask && !isOver) this._drop(ask);
        isBegun = isOver = true;
        failure = undefined;
        ready.length = 0;
        serve();
        return done;
      },
      [Symbol.asyncIterator]() {
        return this;
      },
    };
  }
  // #endregion

  // A promise that nobody awaits does not end a process when it is rejected.
  private _promise(kind: Exchange["kind"], call: Call): Promise<any> {
    const promise = new Promise((take, fail) => void this._begin(kind, call, take, fail));
    promise.catch(nothing);
    return promise;
  }

  private _begin(
    kind: Exchange["kind"],
    call: Call,
    take: Exchange["take"],
    fail: Exchange["fail"],
  ): Exchange | undefined {
    const [event, params, { signal, timeoutMs = this._options.timeoutMs, retry = false } = {}, items] = call;
    const { maxQueued = 100 } = this._options;
    try {
      if (signal?.aborted) throw signal.reason || new RequestError("aborted");
      if (this.state === "closed") throw new RequestError("closed");
      const ref = ++this._ref;
      const ask: Exchange = {
        ref,
        event,
        text: this._write(event, ref, params),
        retry: retry && kind === "request" && !items,
        kind,
        take,
        fail,
      };
      const isSentNow = this._opening && this._isOpen();
      if (!isSentNow && this._queue.length >= maxQueued) throw new RequestError("queue_full");
      // #region uploads
      if (items) ask.sent = () => void this._pump(ask, items);
      // #endregion
      if (signal || timeoutMs) this._limit(ask, signal, kind === "stream" ? 0 : timeoutMs);
      if (isSentNow) this._transmit(ask);
      else this._queue.push(ask);
      return ask;
    } catch (error) {
      return void fail(error);
    }
  }

  private _write(event: string, ref: number | string, params?: object): string {
    const { type, ref: key } = this._contract;
    // #region apart
    const { data, parts } = this._contract;
    if (data) {
      const keyed = { [type]: event, [key]: ref, [data]: params || (parts && {}) };
      return JSON.stringify(parts ? parts.map(part => keyed[part]) : keyed);
    }
    // #endregion
    return JSON.stringify({ [type]: event, ...params, [type]: event, [key]: ref });
  }

  private _say(event: string, ref: number | string, params?: object): void {
    if (this._isOpen()) this._socket!.send(this._write(event, ref, params));
  }

  private _isOpen(): boolean {
    return this._socket?.readyState === 1;
  }

  private _transmit(ask: Exchange): void {
    const { ref, kind } = ask;
    if (kind !== "told") this._pending.set(ref, ask);
    this._socket!.send(ask.text);
    // #region uploads
    ask.sent?.();
    // #endregion
    if (kind !== "told") return;
    this._told.set(ref, ask.event);
    if (this._told.size > 256) this._told.delete(this._told.keys().next().value!);
    this._free(ask);
    ask.take(undefined);
  }

  private _limit(ask: Exchange, signal: RequestSignal | undefined, timeoutMs: number | undefined): void {
    const stop = (error: unknown): void => {
      this._drop(ask);
      ask.fail(error);
    };
    const abort = (): void => stop(signal!.reason || new RequestError("aborted"));
    const timer = timeoutMs ? after(timeoutMs, () => stop(new RequestError("no_answer"))) : nothing;
    signal?.addEventListener("abort", abort);
    ask.release = () => {
      timer();
      signal?.removeEventListener("abort", abort);
    };
  }

  // Nobody waits for it any more. What was not sent never is.
  private _drop(ask: Exchange): void {
    const { ref, event } = ask;
    const wasSent = this._pending.delete(ref);
    this._queue = this._queue.filter(each => each !== ask);
    this._free(ask);
    if (wasSent && this._contract.cancel.includes(event)) this._say("cancel", ref);
  }

  private _free(ask: Exchange): void {
    ask.release?.();
    ask.again?.();
    // #region uploads
    ask.more?.(0);
    // #endregion
  }

  // #region uploads
  private async _pump(ask: Exchange, items: UploadItems<unknown>): Promise<void> {
    let credit = 16;
    let wake = nothing;
    ask.more = count => {
      credit += count;
      wake();
    };
    const isWanted = (): boolean => this._pending.get(ask.ref) === ask && this._isOpen();
    try {
      const source = Symbol.asyncIterator in items ? items[Symbol.asyncIterator]() : items[Symbol.iterator]();
      for (;;) {
        const { done, value } = await source.next();
        while (!done && !credit && isWanted()) await new Promise<void>(resolve => (wake = resolve));
        if (done && isWanted()) this._say("complete", ask.ref);
        if (done) return;
        if (!isWanted()) return void (await source.return?.());
        credit--;
        this._say("item", ask.ref, { item: await value });
      }
    } catch (error) {
      if (!isWanted()) return;
      this._drop(ask);
      ask.fail(error);
    }
  }
  // #endregion

  private _set(status: SocketStatus): void {
    this._status = status;
    tellAll(this._states, status);
  }

  private async _connect(): Promise<void> {
    const { query, protocols = this._contract.protocols, token } = this._options;
    const { connectTimeoutMs = 20000, WebSocket = here.WebSocket } = this._options;
    const attempt = (this._attempt = {});
    const isPast = (): boolean => attempt !== this._attempt;
    const lost = (error: unknown, code = 1006, reason = ""): void => {
      if (!isPast()) this._lost(error, code, reason);
    };
    this._wait(connectTimeoutMs, () => lost(new RequestError("no_answer")));
    try {
      await undefined;
      if (isPast()) return;
      this._set({ ...this._status, state: "connecting" });
      const [asked, names, proof] = await Promise.all([provided(query), provided(protocols), provided(token)]);
      if (isPast()) return;
      const url = new here.URL(this._url);
      for (const [key, value] of Object.entries({ [this._contract.token]: proof, ...asked })) {
        for (const each of Array.isArray(value) ? value : [value]) if (each != null) url.searchParams.append(key, each);
      }
      const socket = (this._socket = new WebSocket(url.href, ...(names.length ? [[...names]] : [])));
      // #region binary
      socket.binaryType = "arraybuffer";
      // #endregion
      socket.onopen = () => isPast() || this._open(isPast);
      socket.onmessage = ({ data }: Fields) => isPast() || this._receive(data);
      socket.onclose = ({ code, reason }: Fields) => lost(undefined, code, reason);
      // undici has no close behind the error of an attempt; a connection's has one, with its code.
      socket.onerror = (event: Fields) => {
        const fail = (): void => lost(event.error || event);
        if (!this._openedAt) fail();
        else if (!isPast()) this._wait(1000, fail);
      };
    } catch (error) {
      lost(error);
    }
  }

  private _wait(ms: number, run: () => void): void {
    this._timer();
    this._timer = after(ms, run);
  }

  private async _open(isPast: () => boolean): Promise<void> {
    const opening = { reconnected: this._wasOpen } as SocketOpening;
    this._openedAt = Date.now();
    this._wasOpen = true;
    this._beat();
    // #region rooms
    const resuming = this._resume(() => true);
    opening.resumed = resuming ? await resuming : {};
    if (isPast()) return;
    // #endregion
    this._opening = opening;
    if (this._openers.size) {
      await Promise.all(tellAll(this._openers, opening));
      if (isPast()) return;
    }
    for (const ask of this._queue.splice(0)) this._transmit(ask);
    this._set({ state: "open", attempt: 0 });
  }

  private _lost(error: unknown, code: number, reason: string): void {
    const { minDelayMs = 1000, maxDelayMs = 30000, endsAt: isEnd = endsAt } = this._options;
    if (tell(isEnd, code)) return this._end({ state: "closed", attempt: 0, code, reason, error });
    const wasStable = this._openedAt && Date.now() - this._openedAt > 5000;
    const attempt = (this._failed = wasStable ? 1 : this._failed + 1);
    const lost = this._leave();
    this._queue.unshift(...lost.filter(ask => ask.retry));
    const most = Math.min(maxDelayMs, minDelayMs * 2 ** (attempt - 1));
    const delayMs = Math.max(most * (0.5 + Math.random() / 2), code === 4429 ? this._notBefore - Date.now() : 0);
    this._wait(delayMs, () => void this._connect());
    this._set({ state: "waiting", attempt, code, reason, error, delayMs });
    for (const ask of lost) if (!ask.retry) ask.fail(new RequestError("connection_lost"));
  }

  private _end(status: SocketStatus): void {
    if (this.state === "closed") return;
    const lost = [...this._leave(), ...this._queue.splice(0)];
    this._watch("removeEventListener");
    this._set(status);
    this._listeners.clear();
    this._states.clear();
    this._openers.clear();
    // #region binary
    this._binaries.clear();
    // #endregion
    for (const ask of lost) {
      this._free(ask);
      ask.fail(new RequestError("closed"));
    }
  }

  // The connection, or the attempt, is over. Gives what waited for an answer.
  private _leave(): Exchange[] {
    const socket = this._socket;
    const lost = [...this._pending.values()];
    this._timer();
    this._attempt = this._socket = this._opening = undefined;
    this._openedAt = 0;
    this._pending.clear();
    this._told.clear();
    // #region rooms
    this._later();
    for (const [name, room] of this._rooms) if (!room._isOpen) this._rooms.delete(name);
    // #endregion
    // #region calls
    for (const asked of this._asked.values()) asked.abort(new RequestError("connection_lost"));
    this._asked.clear();
    // #endregion
    for (const ask of lost) {
      ask.again?.();
      if (!ask.retry) this._free(ask);
    }
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = socket.onerror = nothing;
      if (socket.readyState < 2) socket.close();
    }
    return lost;
  }

  private _watch(change: "addEventListener" | "removeEventListener"): void {
    for (const type of ["online", "pageshow"]) here[change]?.(type, this._wake);
    here.document?.[change]("visibilitychange", this._wake);
  }

  // The network is back, or somebody looks at the page again: a timer is not waited for, and what is dead is found.
  private readonly _wake = (): void => {
    if (here.document?.visibilityState === "hidden") return;
    if (this.state === "waiting") void this._connect();
    else if (this._openedAt) this._probe(10000);
  };

  private _beat(): void {
    const { heartbeatMs = 30000 } = this._options;
    this._heard = false;
    this._timer();
    if (heartbeatMs) this._wait(heartbeatMs, () => (this._heard ? this._beat() : this._probe(heartbeatMs)));
  }

  // What is no event is answered with an error. While handlers run it may have to wait: that is no silence.
  private _probe(withinMs: number): void {
    this._heard = false;
    // #region apart
    const { parts } = this._contract;
    if (parts && this._isOpen()) this._socket!.send(JSON.stringify(parts.map(part => (part === "ref" ? 0 : null))));
    else
      // #endregion
    if (this._isOpen()) this._socket!.send(JSON.stringify({ [this._contract.ref]: 0 }));
    this._wait(withinMs, () => {
      if (this._heard || (this._pending.size && this._isOpen())) this._beat();
      else this._lost(new RequestError("no_answer"), 1006, "");
    });
  }

  private _receive(data: any): void {
    this._heard = true;
    // #region binary
    if (typeof data !== "string") return void tellAll(this._binaries, new Uint8Array(data));
    // #endregion
    try {
      let message: Fields = JSON.parse(data);
      // #region apart
      const { data: apart, parts } = this._contract;
      if (parts) message = Object.fromEntries(parts.map((part, index) => [part, message[index]]));
      // #endregion
      const type: string = message[this._contract.type];
      const ref: unknown = message[this._contract.ref];
      // #region apart
      if (apart) message = together(apart, message);
      // #endregion
      if (typeof ref === "number") this._answer(ref, type, message);
      else if (type === "error") this._complain(message);
      // #region calls
      else if (typeof ref === "string" && type === "cancel") this._asked.get(ref)?.abort(new RequestError("cancelled"));
      else if (typeof ref === "string") void this._reply(ref, type, message);
      // #endregion
      // #region rooms
      else if (!this._takeForRoom(type, message)) return;
      // #endregion
      else this._emit(type, message);
    } catch (error) {
      report(error);
    }
  }

  private _answer(ref: number, type: string, message: Fields): void {
    const ask = this._pending.get(ref);
    const isError = type === "error";
    if (!ask) {
      const event = this._told.get(ref);
      if (isError && event) this._complain(message, event);
      return;
    }
    // #region uploads
    if (type === "more" && ask.more) return ask.more(message.items);
    // #endregion
    const error = isError ? this._error(message) : undefined;
    if (error?.code === "rate_limited" && ask.retry) {
      ask.again = after(error.retryAfterMs || 1000, () => this._isOpen() && this._socket!.send(ask.text));
      return;
    }
    if (isError || ask.kind === "request" || type === "complete") {
      this._pending.delete(ref);
      this._free(ask);
    }
    if (error) ask.fail(error);
    else ask.take(message);
  }

  private _error({ code, errors, retry_after_s }: Fields): RequestError {
    const Kind = new Map(Object.entries(this._contract.errors)).get(code) || RequestError;
    const error = new Kind(code, "", errors, retry_after_s);
    if (error.retryAfterMs) this._notBefore = Date.now() + error.retryAfterMs;
    return error;
  }

  private _complain(message: Fields, event?: string): void {
    const error = this._error(message);
    error.event = event;
    if (!this._emit("error", error)) report(error);
  }
  // #region rooms

  private _room(name: string): RoomView<Pushes> {
    let room = this._rooms.get(name);
    if (!room) this._rooms.set(name, (room = new RoomView(name, this, this._contract.type)));
    return room;
  }

  private _takeForRoom(type: string, message: Fields): boolean {
    const name: unknown = message.room;
    if (typeof name !== "string") return true;
    if (!this._rooms.has(name) && type !== "room_position" && type !== "presence_state") return true;
    const room = this._room(name);
    if (!room._take(type, message)) return false;
    room._emit(type, message);
    return true;
  }

  // Undefined where there is nothing to resume. The answer is looked at before what comes behind it, which a promise
  // would not. A server whose engine is away is asked again, but for rooms that were entered anew meanwhile.
  private _resume(isWanted: (room: RoomView<Pushes>) => boolean): Promise<ResumedRooms> | undefined {
    const found = [...this._rooms.values()].filter(room => room._isOpen && room.position && isWanted(room));
    if (!found.length) return undefined;
    const rooms = Object.fromEntries(found.map(room => [room.name, room.position]));
    return new Promise(resolve => {
      const ref = ++this._ref;
      const take = (message: Fields): void => {
        for (const [name, { recovered, seq, epoch }] of Object.entries(message.rooms as ResumedRooms)) {
          const room = this._room(name);
          if (!recovered && epoch !== undefined) room._at({ seq: seq!, epoch });
          else if (!recovered) {
            room._gap(null);
            room.position = undefined;
          }
        }
        resolve(message.rooms);
      };
      const fail = ({ retryAfterMs = this._options.minDelayMs || 1000 }: RequestError): void => {
        const isWhereItWas = (room: RoomView<Pushes>): boolean => room.position === rooms[room.name];
        if (this._isOpen()) this._later = after(retryAfterMs, () => this._resume(isWhereItWas));
        resolve({});
      };
      const text = this._write("resume", ref, { rooms });
      this._transmit({ ref, event: "resume", text, retry: false, kind: "request", take, fail });
    });
  }
  // #endregion
  // #region calls

  private async _reply(ref: string, type: string, message: Fields): Promise<void> {
    const handler = this._handlers.get(type);
    const context = new here.AbortController();
    this._asked.set(ref, context);
    let reply: Fields;
    try {
      if (!handler) throw new RequestError("unsupported");
      reply = { answer: (await handler(message, context)) ?? null };
    } catch (error) {
      const isRefusal = error instanceof RequestError;
      if (!isRefusal) report(error);
      reply = { error: isRefusal ? { code: error.code, message: error.message } : { code: "internal_error" } };
    }
    if (this._asked.get(ref) !== context) return;
    this._asked.delete(ref);
    if (!context.signal.aborted) this._say("reply", ref, reply);
  }
  // #endregion
}
