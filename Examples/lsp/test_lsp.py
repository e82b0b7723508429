"""`sla lsp`, asked by a client that others wrote: SLA=.build/release/sla pytest Examples/lsp"""
import asyncio
import os
import pathlib
import tempfile

import pytest
import pytest_lsp
import tiny_model
from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pytest_lsp import ClientServerConfig, LanguageClient, client_capabilities

SLA = os.environ.get("SLA", "sla")
FOLDER = tempfile.TemporaryDirectory()
MODEL = pathlib.Path(FOLDER.name, "tiny.gguf")
URI = "file:///home/me/project/a.py"
TEXT = "def area(r):\n    return 3 * \n\nprint(area(2))\n"
SETTINGS = {"onType": {"max_tokens": 12, "ignore_eos": True}, "onInvoke": {"max_tokens": 12, "ignore_eos": True}}

tiny_model.write(MODEL)


@pytest_lsp.fixture(config=ClientServerConfig(server_command=[SLA, "lsp", "--model", str(MODEL)]))
async def client(lsp_client: LanguageClient):
    result = await lsp_client.initialize_session(
        types.InitializeParams(
            capabilities=client_capabilities("neovim"),
            workspace_folders=[types.WorkspaceFolder(uri="file:///home/me/project", name="project")],
            initialization_options=SETTINGS,
        )
    )
    assert result.capabilities.inline_completion_provider
    assert result.capabilities.position_encoding in ("utf-8", "utf-16")
    yield
    await lsp_client.shutdown_session()


def open_file(client, text=TEXT, uri=URI):
    client.text_document_did_open(
        types.DidOpenTextDocumentParams(types.TextDocumentItem(uri=uri, language_id="python", version=1, text=text))
    )


def change(client, text, line, character, end=None, version=2):
    start = types.Position(line, character)
    client.text_document_did_change(
        types.DidChangeTextDocumentParams(
            types.VersionedTextDocumentIdentifier(version=version, uri=URI),
            [types.TextDocumentContentChangePartial(range=types.Range(start, end or start), text=text)],
        )
    )


def place(line, character, kind=types.InlineCompletionTriggerKind.Invoked, **context):
    return types.InlineCompletionParams(
        text_document=types.TextDocumentIdentifier(URI),
        position=types.Position(line, character),
        context=types.InlineCompletionContext(trigger_kind=kind, **context),
    )


async def suggest(client, *arguments, **context):
    return (await client.text_document_inline_completion_async(place(*arguments, **context))).items


@pytest.mark.asyncio
async def test_a_place_has_suggestions(client):
    open_file(client)
    items = await suggest(client, 1, 15)
    assert 1 <= len(items) <= 4 and all(item.insert_text for item in items)
    assert len({item.insert_text for item in items}) == len(items)
    assert items[0].range == types.Range(types.Position(1, 15), types.Position(1, 15))
    automatic = await suggest(client, 1, 15, types.InlineCompletionTriggerKind.Automatic)
    assert len(automatic) == 1


@pytest.mark.asyncio
async def test_what_is_typed_is_followed(client):
    open_file(client)
    change(client, "é😀", 1, 15)
    change(client, "", 0, 0, end=types.Position(1, 0), version=3)
    typed = await suggest(client, 0, 15)
    open_file(client, "    return 3 * é😀\n\nprint(area(2))\n")
    assert [item.insert_text for item in typed] == [item.insert_text for item in await suggest(client, 0, 15)]


@pytest.mark.asyncio
async def test_the_selected_completion_is_respected(client):
    open_file(client)
    info = types.SelectedCompletionInfo(range=types.Range(types.Position(3, 6), types.Position(3, 8)), text="area_of")
    items = await suggest(client, 3, 8, selected_completion_info=info)
    assert items and all(item.insert_text.startswith("area_of") and item.range == info.range for item in items)


@pytest.mark.asyncio
async def test_a_request_is_cancelled_at_once(client):
    open_file(client, TEXT * 300)
    future = client.protocol.send_request("textDocument/inlineCompletion", place(900, 15), msg_id="mine")
    client.cancel_request(types.CancelParams(id="mine"))
    with pytest.raises(JsonRpcException) as refusal:
        await asyncio.wait_for(asyncio.wrap_future(future), 5)
    assert refusal.value.code == types.LSPErrorCodes.RequestCancelled
    assert await suggest(client, 900, 15)


@pytest.mark.asyncio
async def test_a_change_ends_what_was_asked_before(client):
    open_file(client, TEXT * 300)
    future = client.protocol.send_request("textDocument/inlineCompletion", place(900, 15))
    change(client, "x", 900, 15)
    with pytest.raises(JsonRpcException) as refusal:
        await asyncio.wait_for(asyncio.wrap_future(future), 5)
    assert refusal.value.code == types.LSPErrorCodes.ContentModified


@pytest.mark.asyncio
async def test_the_configuration_is_read_when_it_changes(client):
    open_file(client)
    automatic = types.InlineCompletionTriggerKind.Automatic
    assert await suggest(client, 1, 15, automatic)
    client.set_configuration({"automatic": False}, section="sla")
    client.workspace_did_change_configuration(types.DidChangeConfigurationParams(settings=None))
    # Until the server has asked for it.
    await asyncio.sleep(0.3)
    assert not await suggest(client, 1, 15, automatic)
    client.set_configuration({"automatik": True}, section="sla")
    client.workspace_did_change_configuration(types.DidChangeConfigurationParams(settings=None))
    await client.wait_for_notification("window/showMessage")
    assert "there is no setting automatik" in client.messages[-1].message


@pytest.mark.asyncio
async def test_what_is_not_open_is_refused(client):
    with pytest.raises(JsonRpcException) as refusal:
        await suggest(client, 0, 0)
    assert refusal.value.code == types.ErrorCodes.InvalidParams


@pytest.mark.asyncio
async def test_other_files_matter(client):
    open_file(client)
    alone = await suggest(client, 1, 15)
    open_file(client, "PI = 3.14159\n", uri="file:///home/me/project/numbers.py")
    beside = await suggest(client, 1, 15)
    assert [item.insert_text for item in alone] != [item.insert_text for item in beside]
