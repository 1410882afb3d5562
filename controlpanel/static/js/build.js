// A build's log: what was not in the page yet, second by second, until the build has ended. Text only ever becomes text nodes.
const box = document.getElementById("build-log");
const WAIT_MS = 700;
const decoder = new TextDecoder();

let offset = Number(box?.dataset.offset ?? 0);

function atBottom() {
  return window.innerHeight + window.scrollY >= document.documentElement.scrollHeight - 40;
}

/** Whether more may come. */
async function more() {
  const answer = await fetch(`${box.dataset.url}?offset=${offset}`, { credentials: "same-origin" });
  if (!answer.ok) return answer.status >= 500;
  const data = new Uint8Array(await answer.arrayBuffer());
  const state = answer.headers.get("X-Build-State");
  const follow = atBottom();
  offset += data.byteLength;
  box.append(decoder.decode(data, { stream: true }));
  if (follow && data.byteLength) window.scrollTo(0, document.documentElement.scrollHeight);
  return state === "running" || data.byteLength > 0;
}

async function follow() {
  for (;;) {
    let goOn = true;
    try {
      goOn = await more();
    } catch {
      // the connection is away; it is tried again
    }
    if (!goOn) return;
    await new Promise((resolve) => setTimeout(resolve, WAIT_MS));
  }
}

if (box) follow();
