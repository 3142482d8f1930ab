// Chat with an endpoint from the browser: mints a short-lived key, then streams from the gateway.
// <section data-playground data-gateway-url data-model data-key-url>, see components/playground.html.
(() => {
  "use strict";
  const RETRY_MINTED_KEY_MS = 5000; // a new key reaches every gateway within this time
  const KEY_MARGIN_MS = 15000;

  class Refused extends Error {
    constructor(message, status) {
      super(message);
      this.status = status;
    }
  }

  const pause = (ms, signal) => new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    }, { once: true });
  });

  const refusal = async (response) => {
    const text = await response.text();
    try {
      const body = JSON.parse(text);
      // OpenAI's shape from the gateway, RFC 9457 from the portal.
      const message = body.error?.message ?? body.detail ?? body.title;
      if (message) return new Refused(message, response.status);
    } catch {
      // not JSON: a proxy's page, of no use to the reader
    }
    return new Refused(`The server answered ${response.status} ${response.statusText}`.trim(), response.status);
  };

  // Yields the data of each server-sent event, however the bytes were cut on the way.
  async function* events(stream) {
    const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
    let buffer = "";
    let data = [];
    try {
      for (;;) {
        const { value, done } = await reader.read();
        buffer += done ? "\n\n" : value;
        let end;
        while ((end = buffer.indexOf("\n")) >= 0) {
          const line = buffer.slice(0, end).replace(/\r$/, "");
          buffer = buffer.slice(end + 1);
          if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
          else if (line === "" && data.length) {
            yield data.join("\n");
            data = [];
          }
        }
        if (done) return;
      }
    } finally {
      reader.cancel().catch(() => {});
    }
  }

  const start = (root) => {
    const form = root.querySelector("form");
    const log = root.querySelector("[data-log]");
    const template = root.querySelector("template");
    const send = root.querySelector("[data-send]");
    const stop = root.querySelector("[data-stop]");
    const clear = root.querySelector("[data-clear]");
    const status = root.querySelector("[data-status]");
    const welcome = root.querySelector("[data-welcome]");
    const prompt = form.elements.prompt;
    const history = [];
    let key = null;
    let running = null;

    const busy = (controller) => {
      running = controller;
      send.hidden = Boolean(controller);
      stop.hidden = !controller;
      clear.disabled = Boolean(controller);
      log.setAttribute("aria-busy", String(Boolean(controller)));
    };

    const bubble = (role, text) => {
      const item = template.content.cloneNode(true).firstElementChild;
      item.dataset.role = role;
      item.querySelector("[data-role-name]").textContent = role === "user" ? "You" : root.dataset.model;
      item.querySelector("[data-text]").textContent = text;
      welcome.hidden = true;
      log.append(item);
      log.scrollTop = log.scrollHeight;
      return item;
    };

    const mint = async (signal) => {
      if (key && key.endsAt - KEY_MARGIN_MS > Date.now()) return key;
      const response = await fetch(root.dataset.keyUrl, {
        method: "POST",
        headers: { "X-CSRFToken": form.elements.csrfmiddlewaretoken.value, Accept: "application/json" },
        signal,
      });
      if (!response.ok) throw await refusal(response);
      const minted = await response.json();
      key = { text: minted.key, endsAt: Date.parse(minted.expires_at), mintedAt: Date.now() };
      return key;
    };

    const open = async (body, times, signal) => {
      for (;;) {
        const current = await mint(signal);
        times.sent = performance.now();
        const response = await fetch(`${root.dataset.gatewayUrl.replace(/\/$/, "")}/v1/chat/completions`, {
          method: "POST",
          headers: { "Content-Type": "application/json", Authorization: `Bearer ${current.text}` },
          body: JSON.stringify(body),
          signal,
        });
        if (response.ok) return response;
        if (response.status === 401) {
          if (Date.now() - current.mintedAt < RETRY_MINTED_KEY_MS) {
            status.textContent = "Waiting for the gateway to learn the key…";
            await pause(300, signal);
            continue;
          }
          key = null;
        }
        throw await refusal(response);
      }
    };

    const request = () => {
      const system = form.elements.system.value.trim();
      const body = {
        model: root.dataset.model,
        messages: system ? [{ role: "system", content: system }, ...history] : [...history],
        stream: true,
        stream_options: { include_usage: true },
      };
      const number = (name) => form.elements[name].value.trim();
      if (number("max_tokens")) body.max_tokens = Number(number("max_tokens"));
      if (number("temperature")) body.temperature = Number(number("temperature"));
      return body;
    };

    const meta = (times, usage) => {
      const parts = [];
      if (times.first) parts.push(`first token ${Math.round(times.first - times.sent)} ms`);
      if (usage) parts.push(`${usage.prompt_tokens} in, ${usage.completion_tokens} out`);
      const streamed = (times.last - times.first) / 1000;
      if (usage && usage.completion_tokens > 1 && streamed > 0) {
        parts.push(`${((usage.completion_tokens - 1) / streamed).toFixed(1)} tokens/s`);
      }
      return parts.join(" · ");
    };

    const answer = async () => {
      const controller = new AbortController();
      busy(controller);
      const item = bubble("assistant", "");
      const text = item.querySelector("[data-text]");
      item.dataset.state = "streaming";
      status.textContent = "Asking…";
      const times = {};
      let usage = null;
      let outcome = "done";
      try {
        const body = request();
        const response = await open(body, times, controller.signal);
        status.textContent = "Answering…";
        for await (const data of events(response.body)) {
          if (data === "[DONE]") break;
          const chunk = JSON.parse(data);
          if (chunk.error) throw new Refused(chunk.error.message, 0);
          usage = chunk.usage ?? usage;
          const piece = chunk.choices?.[0]?.delta?.content;
          if (!piece) continue;
          times.last = performance.now();
          times.first ??= times.last;
          const follows = log.scrollHeight - log.scrollTop - log.clientHeight < 48;
          text.append(piece);
          if (follows) log.scrollTop = log.scrollHeight;
        }
        status.textContent = "Answer complete.";
      } catch (error) {
        if (controller.signal.aborted) {
          outcome = "stopped";
          status.textContent = "Stopped.";
        } else {
          outcome = "failed";
          const away = error instanceof TypeError;
          const message = away ? "The gateway could not be reached. Check that it runs and allows this origin." : error.message;
          text.append(text.textContent ? `\n${message}` : message);
          status.textContent = "The request failed.";
        }
      }
      item.dataset.state = outcome;
      item.querySelector("[data-meta]").textContent = [meta(times, usage), outcome === "stopped" ? "stopped" : ""].filter(Boolean).join(" · ");
      if (outcome === "failed" || !text.textContent) history.pop(); // the question goes with its answer
      else history.push({ role: "assistant", content: text.textContent });
      busy(null);
      prompt.focus();
    };

    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const text = prompt.value.trim();
      if (!text || running) return;
      bubble("user", text);
      history.push({ role: "user", content: text });
      prompt.value = "";
      answer();
    });
    prompt.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        form.requestSubmit();
      }
    });
    stop.addEventListener("click", () => running?.abort());
    clear.addEventListener("click", () => {
      history.length = 0;
      log.replaceChildren(welcome);
      welcome.hidden = false;
      status.textContent = "";
      prompt.focus();
    });
    for (const control of [send, clear, prompt]) control.disabled = false;
  };

  document.addEventListener("DOMContentLoaded", () => {
    for (const root of document.querySelectorAll("[data-playground]")) start(root);
  });
})();
