"""Stands in for TensorRT-LLM's LLM API: words are tokens, answers are written by rules in the prompt.

``count N`` answers "1 2 3 … N" and stops; ``repeat X`` answers X for ever; ``fail`` breaks in the engine; ``die``
ends it.
Each token takes 5 ms. ``requests`` of the engine are written to the file that FAKE_ENGINE_LOG names.
"""

import asyncio
import json
import os
import threading

TOKEN_S = 0.005


class SamplingParams:
    def __init__(self, **given):
        self.__dict__.update(given)


class Wrapped:
    bos_token = "<s>"


class Tokenizer:
    tokenizer = Wrapped()

    def encode(self, text, add_special_tokens=True):
        words = text.split()
        return list(range(1 if not add_special_tokens else 0, len(words) + 1)) if words else []


class Output:
    def __init__(self):
        self.index, self.text, self.token_ids, self.finish_reason = 0, "", [], None


class RequestOutput:
    def __init__(self, ids, words, params, log):
        self.prompt_token_ids, self.outputs, self.finished, self.cached_tokens = ids, [Output()], False, 0
        self._words, self._params, self._aborted, self._log = words, params, False, log

    def abort(self):
        self._aborted = True
        self._log({"aborted_after": len(self.outputs[0].token_ids)})

    def __aiter__(self):
        return self

    async def __anext__(self):
        if self.finished:
            raise StopAsyncIteration
        await asyncio.sleep(TOKEN_S)
        output = self.outputs[0]
        word = None if self._aborted else next(self._words, None)
        if word is not None:
            output.token_ids.append(len(output.token_ids))
            output.text += word if not output.text else f" {word}"
        if self._aborted:
            output.finish_reason = "cancelled"
        elif word is None:
            output.finish_reason = "stop"
        elif len(output.token_ids) >= self._params.max_tokens:
            output.finish_reason = "length"
        self.finished = output.finish_reason is not None
        self.cached_tokens = 2 if len(self.prompt_token_ids) > 2 else 0
        return self


class LLM:
    def __init__(self, **options):
        self.options, self.tokenizer, self._lock = options, Tokenizer(), threading.Lock()
        self._prompts, self._dead = {}, False
        self._log({"options": options})
        encode = self.tokenizer.encode

        def remember(text, add_special_tokens=True):
            ids = encode(text, add_special_tokens=add_special_tokens)
            self._prompts[tuple(ids)] = text
            return ids

        self.tokenizer.encode = remember

    def generate_async(self, inputs, sampling_params=None, streaming=False, cache_salt=None):
        ids = inputs["prompt_token_ids"]
        self._log(
            {"ids": len(ids), "params": vars(sampling_params), "streaming": streaming, "salt": cache_salt}
        )
        verb, _, rest = self._prompts[tuple(ids)].removeprefix("<s>").partition(" ")
        if verb == "die":
            self._dead = True
        if verb == "fail":
            raise RuntimeError(f"the prompt was {rest}")
        return RequestOutput(ids, self._answer(verb, rest), sampling_params, self._log)

    def get_stats(self, timeout=2):
        blocks = {"maxNumBlocks": 100, "freeNumBlocks": 60, "usedNumBlocks": 40, "tokensPerBlock": 32}
        return [{"numActiveRequests": 1, "numQueuedRequests": 0, "kvCacheStats": blocks}]

    def _check_health(self):
        return not self._dead

    def shutdown(self):
        self._log({"shutdown": True})

    def _answer(self, verb, rest):
        if verb == "count":
            yield from map(str, range(1, int(rest.split()[0]) + 1))
        while verb in ("repeat", "die"):
            yield rest.split()[0]

    def _log(self, entry):
        with self._lock, open(os.environ["FAKE_ENGINE_LOG"], "a") as log:
            log.write(json.dumps(entry, default=str) + "\n")


__all__ = ["LLM", "SamplingParams"]
