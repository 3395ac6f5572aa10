// Compiled, not run: what the types allow, and what they must not.
import { Client, connect, GoverseError, ref, type Outcome, type Push } from "goverse-client";

interface Message { number: string; message: string }
interface ChatRoom {
  Join(request: { userName: string; after?: string }): { users: string[]; messages?: Message[] };
  History(request: { after?: string }): Promise<{ messages?: Message[] }>;
}

const client: Client = connect(["http://localhost:48000", new URL("http://localhost:48001")], {
  headers: async () => ({ Authorization: "Bearer x" }),
  backoff: { first: 100 },
  WebSocket: null,
});
const room = ref<ChatRoom>(client, "ChatRoom", "tea");

export async function calls(signal: AbortSignal): Promise<string> {
  const { users } = await room.Join({ userName: "ann" }, { timeout: 1000, signal, callId: client.newCallId() });
  const last: Message | undefined = (await room.History()).messages?.at(-1);
  const typed = await client.call<{ value: string }, { amount: number }>("Counter", "x", "Add", { amount: 5 });
  const id: string = await client.create("Counter");
  const verdict = await client.settle<{ value: string }>("Counter", id, "id");
  if (verdict.status === "SUCCESS") return verdict.response.value;
  if (verdict.status === "FAILED") return verdict.error;
  return users.join() + typed.value + last?.message;
}

export async function pushes(): Promise<void> {
  const stop = client.onPush<Message>("chat.ChatMessage", (message, push: Push<Message>) => message.number + push.type);
  stop();
  for await (const { push, reset } of client.pushes({ limit: 10 })) {
    if (reset) throw new Error(reset.reason);
    else console.log(push.message, push.seq);
  }
}

export async function follow(): Promise<number> {
  for await (const p of client.subscribe<{ users: string[] }, { joined: string }>("ChatRoom", "tea")) {
    if (p.snapshot) return p.snapshot.users.length + (p.reset ? p.reason.length : 0);
    else return p.change.joined.length + Number(p.version);
  }
  return 0;
}

export function outcome(error: unknown): Outcome | undefined {
  return error instanceof GoverseError ? error.outcome : undefined;
}

// @ts-expect-error: a room has no such method
room.Fly({});
// @ts-expect-error: a name is a string
room.Join({ userName: 1 });
// @ts-expect-error: there is no such transport
connect("http://localhost:48000", { transport: "smoke" });
// @ts-expect-error: there is no such option
connect("http://localhost:48000", { tranport: "sse" });
// @ts-expect-error: it is for reading
client.state = "open";
// @ts-expect-error: only calls have ids
client.delete("Counter", "x", { callId: "y" });
// @ts-expect-error: a name is a string
client.onPush(7, () => {});
