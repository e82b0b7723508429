-- `sla lsp` in a real editor: SLA=.build/release/sla nvim --headless -u NONE -c 'luafile Examples/lsp/test_neovim.lua'
local program = os.getenv("SLA") or "sla"
local patience = 30000

local function check(condition, what)
  if not condition then
    io.stderr:write("FAILED  " .. what .. "\n")
    vim.cmd("cquit 1")
  end
  print("ok      " .. what)
end

local folder = vim.fn.tempname()
vim.fn.mkdir(folder)
vim.cmd("edit " .. folder .. "/a.py")
vim.api.nvim_buf_set_lines(0, 0, -1, false, { "é😀 = 1", "total = ", "print(total)" })

local client = vim.lsp.start_client({
  name = "sla",
  cmd = { program, "lsp" },
  root_dir = folder,
  init_options = { onType = { max_tokens = 9, ignore_eos = true, decoder = "greedy" } },
})
check(client and vim.lsp.buf_attach_client(0, client), "the server starts")
check(vim.wait(patience, function() return vim.lsp.buf_get_clients(0)[client] ~= nil end), "the server is initialized")

local function suggestion(line, character)
  local place = { textDocument = vim.lsp.util.make_text_document_params(), position = { line = line, character = character } }
  local answers = vim.lsp.buf_request_sync(0, "textDocument/completion", place, patience)
  local answer = answers and answers[client]
  check(answer and answer.result and #answer.result.items == 1, "there is a suggestion at " .. line .. ":" .. character)
  return answer.result.items[1].textEdit
end

local first = suggestion(1, 8)
check(first.range.start.line == 1 and first.range.start.character == 8, "it belongs at the cursor")

-- Characters of two and of four bytes stand before the place; the editor counts them in UTF-16.
vim.api.nvim_buf_set_text(0, 0, 6, 0, 6, { "; b" })
local behind = suggestion(0, 6)
check(behind.range.start.character == 5, "the word before it is part of the edit")
vim.lsp.util.apply_text_edits({ behind }, 0, "utf-16")
local line = vim.api.nvim_buf_get_lines(0, 0, 1, false)[1]
check(line:sub(1, 9) == "é😀; b" and #line > #"é😀; b = 1", "the suggestion is inserted")

vim.lsp.stop_client(client)
check(vim.wait(patience, function() return vim.lsp.client_is_stopped(client) end), "the server ends")
vim.cmd("qall!")
