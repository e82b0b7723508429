"""Runs the client against the real engine ($SLA, else `sla` on the path) and its built-in model."""
import asyncio
import os
import signal
import unittest

from sla_client import Engine, EngineError

PROMPT = "3 5 7 2>24\n"
GAMES = [PROMPT, "9 4 11 6>50\n", "8 3 10>34\n", "13 2 7 5>61\n"]
# Seconds of work: a search far wider than the game needs, and no end of the answer.
LONG = {"prompt": PROMPT, "width": 4, "depth": 3, "chunk": 10, "min_p": 0, "ignore_eos": True, "max_tokens": 100}


class Recorder(Engine):
    """An engine that also keeps what it sent."""

    def _write(self, message):
        self.__dict__.setdefault("sent", []).append(message)
        super()._write(message)


def running(engine):
    return len(engine._pending)


class ClientTests(unittest.IsolatedAsyncioTestCase):
    async def test_ready(self):
        async with Engine() as engine:
            self.assertEqual(engine.ready["protocol"], 1)
            self.assertTrue(engine.ready["model"]["reward"])

    async def test_generate(self):
        async with Engine() as engine:
            events = [event async for event in engine.generate(PROMPT)]
            tokens = [event for event in events if event["type"] == "token"]
            self.assertRegex("".join(token["text"] for token in tokens), r"^\d+[-+*/]\d+=\d+;")
            self.assertEqual([token["index"] for token in tokens], list(range(len(tokens))))
            self.assertTrue(all(isinstance(token["reward"], float) for token in tokens))
            self.assertIn("commit", {event["type"] for event in events})
            self.assertEqual(events[-1]["type"], "done")
            self.assertEqual(events[-1]["text"], "".join(token["text"] for token in tokens))

    async def test_branches_and_drafts(self):
        async with Engine() as engine:
            events = [event async for event in engine.generate(PROMPT, include=["branches", "draft"])]
            self.assertTrue(any(event["type"] == "draft" for event in events))
            self.assertTrue(all("rejected" in event for event in events if event["type"] == "commit"))

    async def test_concurrent_answers_are_those_of_requests_alone(self):
        asked = [(game, decoder) for game in GAMES for decoder in ("greedy", "sla")]
        async with Engine() as engine:
            together = await asyncio.gather(*(engine.complete(game, decoder=decoder) for game, decoder in asked))
            for (game, decoder), done in zip(asked, together):
                alone = await engine.complete(game, decoder=decoder)
                self.assertEqual([alone[key] for key in ("text", "reward", "usage")],
                                 [done[key] for key in ("text", "reward", "usage")])

    async def test_breaking_out_cancels(self):
        async with Recorder() as engine:
            async for event in engine.generate(**LONG):
                request = event["id"]
                break
            while running(engine):  # until Python has closed the iterator that was dropped
                await asyncio.sleep(0)
            self.assertEqual((engine.sent[-1]["type"], engine.sent[-1]["target"]), ("cancel", request))
            self.assertEqual((await engine.request("stats"))["active"], 0)
            self.assertEqual((await engine.complete(PROMPT))["finish_reason"], "stop")

    async def test_cancelling_the_task_cancels(self):
        async with Recorder() as engine:
            task = asyncio.create_task(engine.complete(**LONG))
            await asyncio.sleep(0.01)
            task.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await task
            self.assertEqual(engine.sent[-1]["type"], "cancel")
            self.assertEqual((await engine.request("stats"))["active"], 0)

    async def test_a_finished_request_is_not_cancelled(self):
        async with Recorder() as engine:
            await engine.complete(PROMPT)
            await engine.tokenize("1")
        self.assertEqual([message["type"] for message in engine.sent], ["generate", "tokenize"])

    async def test_score(self):
        async with Engine() as engine:
            right, wrong = await engine.score("8 7>1\n", "8-7=1", "8-7=3")
            self.assertGreater(right["logprob"], wrong["logprob"])
            self.assertEqual("".join(token["text"] for token in right["tokens"]), "8-7=1")

    async def test_tokenize(self):
        async with Engine() as engine:
            for text in (PROMPT, "é, 𝄞 and \u2028"):
                self.assertEqual(await engine.detokenize(await engine.tokenize(text)), text)

    async def test_errors(self):
        async with Engine() as engine:
            with self.assertRaises(EngineError) as caught:
                await engine.complete(PROMPT, widht=2)
            self.assertEqual((caught.exception.code, caught.exception.field), ("invalid_request", "widht"))
            with self.assertRaises(EngineError) as caught:
                await engine.request("dance")
            self.assertEqual(caught.exception.code, "unknown_type")
            self.assertEqual(running(engine), 0)
            self.assertEqual((await engine.complete(PROMPT))["finish_reason"], "stop")

    async def test_leaving_with_requests_running(self):
        async with Engine() as engine:
            tasks = [asyncio.create_task(engine.complete(**LONG)) for _ in range(3)]
            await asyncio.sleep(0.01)
        self.assertEqual(engine._process.returncode, 0)
        for task in tasks:
            self.assertEqual((await asyncio.wait_for(task, 5))["finish_reason"], "cancelled")
        async with Engine() as engine:
            answers = [f"{number};" + "7*3=21;21+5=26;26-2=24;" * 5 for number in range(256)]
            score = asyncio.create_task(engine.score(PROMPT, *answers))
            await asyncio.sleep(0.01)
        with self.assertRaises(EngineError) as caught:
            await asyncio.wait_for(score, 5)
        self.assertEqual(caught.exception.code, "cancelled")

    async def test_an_engine_that_dies(self):
        async with Engine() as engine:
            os.kill(engine._process.pid, signal.SIGSTOP)  # so that the answer is surely still to come
            task = asyncio.create_task(engine.complete(PROMPT))
            await asyncio.sleep(0.01)
            os.kill(engine._process.pid, signal.SIGKILL)
            with self.assertRaises(EngineError) as caught:
                await asyncio.wait_for(task, 5)
            self.assertEqual(caught.exception.code, "ended")
            with self.assertRaises(EngineError):
                await engine.tokenize("1")

    async def test_an_engine_that_does_not_start(self):
        with self.assertRaises(FileNotFoundError):
            await Engine(program="./no-such-engine").__aenter__()
        with self.assertRaises(EngineError) as caught:
            async with Engine("--model", "no-such-model.gguf"):
                pass
        self.assertEqual(caught.exception.code, "ended")


if __name__ == "__main__":
    unittest.main()
