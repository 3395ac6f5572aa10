/** readEvents reads Server-Sent Events, {event, data, id}, from a stream of bytes. */
export async function* readEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let event = fresh();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return; // an event that is not whole is none
      const lines = (rest + value).split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop();
      for (const line of lines) {
        if (line !== "") addLine(event, line);
        else {
          if (event.data.length > 0) yield { ...event, data: event.data.join("\n") };
          event = fresh();
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // it may have ended already
  }
}

const fresh = () => ({ event: "message", data: [], id: undefined });

function addLine(event, line) {
  const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line);
  if (name === "data") event.data.push(value);
  else if (name === "event" || name === "id") event[name] = value;
}
