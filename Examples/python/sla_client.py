"""A client for the sla engine: one file, asyncio, standard library only (Python 3.9 or later).

    async with Engine() as engine:
        async for event in engine.generate("3 5 7 2>24\\n"):
            if event["type"] == "token":
                print(event["text"], end="", flush=True)

Requests may run at the same time; each gets its own events, in order. Events are the engine's, as dictionaries.
"""
import asyncio
import itertools
import json
import os
import sys


class EngineError(Exception):
    """An `error` event; also the end of an engine that still owed an answer (code "ended"), and a request other than
    `generate` that was cancelled (code "cancelled")."""

    def __init__(self, code, message, field=None):
        super().__init__(message)
        self.code, self.field = code, field


class Engine:
    """An engine process. Arguments are the command's own: `Engine("--model", "model.gguf")`.

    The program is `$SLA`, else `sla` on the path. What it logs goes to this process's stderr.
    """

    def __init__(self, *arguments, program=None):
        self.ready = None  # the first event: what was loaded
        self._command = [program or os.environ.get("SLA", "sla"), "serve", *arguments]
        self._ids = itertools.count(1)
        self._pending = {}  # id of a request that is still owed its answer: the queue of its events
        self._ended = None  # why no more events will come

    async def __aenter__(self):
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            limit=1 << 28)  # bytes a line may have
        try:
            line = await self._process.stdout.readline()
            if not line:
                status = await self._process.wait()
                raise EngineError("ended", f"{self._command[0]} ended with status {status} before it was ready")
            self.ready = json.loads(line)
        except BaseException:
            await self._stop()
            raise
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_):
        for request in self._pending:  # each still ends with its `done`
            self._cancel(request)
        await self._stop()
        await self._reader

    # Requests

    async def generate(self, prompt=None, **fields):
        """The events of a `generate` request, up to and with `done`. Leaving the loop early cancels the request.

        The fields are the protocol's: `decoder`, `max_tokens`, `stop`, `include` and so on. Python closes an iterator
        that is dropped; close one that is kept in a variable with `await events.aclose()`.
        """
        if prompt is not None:
            fields["prompt"] = prompt
        request, events = self._send("generate", fields)
        try:
            while True:
                event = await self._next(events)
                yield event
                if event["type"] == "done":
                    return
        finally:
            self._leave(request)

    async def complete(self, prompt=None, **fields):
        """The `done` event of a `generate` request: the whole text, its reward, what it cost."""
        async for event in self.generate(prompt, **fields):
            if event["type"] == "done":
                return event

    async def request(self, type, **fields):
        """The one event that answers any other request: `await engine.request("stats")`."""
        request, events = self._send(type, fields)
        try:
            event = await self._next(events)
        finally:
            self._leave(request)
        if event["type"] == "done":
            raise EngineError("cancelled", f"the {type} request was cancelled")
        return event

    async def score(self, prompt, *completions):
        """For each completion its tokens with log-probability and reward, and their sum and mean."""
        return (await self.request("score", prompt=prompt, completions=list(completions)))["completions"]

    async def tokenize(self, text, add_special=False):
        return (await self.request("tokenize", text=text, add_special=add_special))["tokens"]

    async def detokenize(self, tokens):
        return (await self.request("detokenize", tokens=tokens))["text"]

    # The process

    def _send(self, type, fields):
        if self._ended:
            raise EngineError("ended", self._ended)
        request, events = next(self._ids), asyncio.Queue()
        self._pending[request] = events
        self._write({"type": type, **fields, "id": request})
        return request, events

    def _leave(self, request):
        """Stops a request if its answer is still to come. What the engine says to that is not waited for."""
        if self._pending.pop(request, None):
            self._cancel(request)

    def _cancel(self, request):
        self._write({"type": "cancel", "id": next(self._ids), "target": request})

    def _write(self, message):
        if not self._process.stdin.is_closing():
            self._process.stdin.write(json.dumps(message).encode() + b"\n")

    async def _next(self, events):
        event = await events.get()
        if event is None:
            raise EngineError("ended", self._ended)
        if event["type"] == "error":
            raise EngineError(event["code"], event["message"], event.get("field"))
        return event

    async def _read(self):
        """Hands every event to the request it answers, until the engine ends."""
        try:
            while line := await self._process.stdout.readline():
                event = json.loads(line)
                request = event.get("id")
                if request in self._pending:
                    self._pending[request].put_nowait(event)
                    if event["type"] not in ("token", "commit", "draft", "progress"):  # every other event is a request's last
                        del self._pending[request]
            self._ended = f"{self._command[0]} ended with status {await self._process.wait()}"
        except ValueError as error:
            self._ended = f"{self._command[0]} wrote what is not an event: {error}"
        for events in self._pending.values():
            events.put_nowait(None)
        self._pending.clear()

    async def _stop(self):
        """End of input asks the engine to finish; one that does not is terminated."""
        self._process.stdin.close()
        for signal, seconds in (self._process.terminate, 10), (self._process.kill, 2):
            try:
                return await asyncio.wait_for(self._process.wait(), seconds)
            except asyncio.TimeoutError:
                signal()
        await self._process.wait()


async def main(arguments):
    games = ["3 5 7 2>24\n", "6 10 3 7>43\n", "9 4 11 6>50\n", "13 2 7 5>61\n"]
    async with Engine(*arguments) as engine:
        print(f"{engine.ready['engine']}, {engine.ready['model']['name']}\n")

        # What is decided at once: a token, a chunk that the search has looked behind, or the whole answer.
        print(f"{games[0].strip()}, with | between what is decided at once:")
        for decoder in ("greedy", "sla", "best_of"):
            parts, tokens = [], []
            async for event in engine.generate(games[0], decoder=decoder):
                if event["type"] == "token":
                    tokens.append(event["text"])
                elif event["type"] == "commit":
                    parts.append("".join(tokens[event["from"]:event["to"]]))
            print(f"  {decoder:8}{'|'.join(parts or filter(None, tokens))}")

        # At equal cost: as many answers are drawn as evaluate the tokens that look-ahead evaluated. All games at once, since what
        # runs at the same time shares the engine's steps.
        print("\nThe same and other games; best_of may evaluate as many tokens as look-ahead:")
        greedy = await asyncio.gather(*(engine.complete(game, decoder="greedy") for game in games))
        search = await asyncio.gather(*(engine.complete(game, decoder="sla") for game in games))
        counts = [-(-tree["usage"]["evaluated_tokens"] // max(1, one["usage"]["completion_tokens"]))
                  for one, tree in zip(greedy, search)]
        drawn = await asyncio.gather(*(engine.complete(game, decoder="best_of", n=n) for game, n in zip(games, counts)))
        for game, *answers in zip(games, greedy, drawn, search):
            print(game.strip())
            for decoder, done in zip(("greedy", "best_of", "sla"), answers):
                usage = done["usage"]
                print(f"  {decoder:8}{usage['evaluated_tokens']:4} tokens evaluated, first token after step "
                      f"{usage['first_token_step']:2} of {usage['steps']:2}:  {done['text']}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
