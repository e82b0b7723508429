-- Types into a Neovim that runs the plugin with the real engine ($SLA, else sla on the path):
--
--   SLA=.build/release/sla nvim --headless -u NONE -c 'luafile Examples/neovim/test.lua'
--
-- Exits with 0 when every test passes, else with 1.

local here = vim.fn.fnamemodify(debug.getinfo(1, "S").source:sub(2), ":p:h")
local program = vim.fn.exepath(vim.env.SLA or "sla")
local plugin = here .. "/sla.lua"
local child -- the channel of the Neovim under test

local function lua(code, ...)
  return vim.rpcrequest(child, "nvim_exec_lua", code, { ... })
end

local function type_keys(keys)
  vim.rpcrequest(child, "nvim_input", keys)
end

local function lines()
  return vim.rpcrequest(child, "nvim_buf_get_lines", 0, 0, -1, true)
end

-- The ghost text as an extended mark: { id, row, column, details }; nil without any.
local function ghost()
  return lua([[
    return vim.api.nvim_buf_get_extmarks(0, vim.api.nvim_create_namespace("sla"), 0, -1, { details = true })
  ]])[1]
end

-- What the ghost text shows: all of it, or the parts in one highlight.
local function shown(highlight)
  local mark, texts = ghost(), {}
  if not mark then return "" end
  for _, row in ipairs({ mark[4].virt_text, unpack(mark[4].virt_lines or {}) }) do
    local text = ""
    for _, chunk in ipairs(row) do
      if not highlight or chunk[2] == highlight then text = text .. chunk[1] end
    end
    table.insert(texts, text)
  end
  return table.concat(texts, "\n")
end

local function wait(what, condition)
  if not vim.wait(10000, condition, 5) then error("waited in vain for " .. what, 2) end
end

local function expect(expected, got)
  if not vim.deep_equal(expected, got) then
    error(("expected %s\n     got %s"):format(vim.inspect(expected), vim.inspect(got)), 2)
  end
end

-- The lines that a shell script, standing in for the engine, was sent.
local function sent(log)
  return vim.tbl_map(vim.json.decode, vim.fn.filereadable(log) == 1 and vim.fn.readfile(log) or {})
end

-- An engine of canned answers: it logs what it is sent, and after the first line writes the pieces, with pauses.
local function fake(log, pieces)
  local script = { 'IFS= read -r line; printf "%s\\n" "$line" >>"$0"' }
  for _, piece in ipairs(pieces) do
    table.insert(script, "printf %s " .. vim.fn.shellescape(piece) .. "; sleep 0.05")
  end
  table.insert(script, 'exec cat >>"$0"')
  return { "sh", "-c", table.concat(script, "\n"), log }
end

local function setup(options)
  lua([[
    notifications = {}
    vim.notify = function(message) table.insert(notifications, message) end
    sla = dofile((...)[1])
    sla.setup((...)[2])
  ]], { plugin, options })
end

local tests = {}

function tests.completes_and_accepts()
  setup({ command = program })
  type_keys("i3 5 7 2>24<CR><C-Space>")
  wait("ghost text", function() return shown("SlaCommitted"):find("^%d+[-+*/]%d+=%d+;.*;.*=%d+$") end)
  vim.wait(100) -- for what may still come
  local answer = shown()
  expect({ 1, 0 }, vim.list_slice(ghost(), 2, 3))
  expect({ "3 5 7 2>24", "" }, lines())
  type_keys("<Tab>")
  wait("the accepted text", function() return lines()[2] ~= "" end)
  expect({ "3 5 7 2>24", answer }, lines())
  expect(nil, ghost())
  expect({ 2, #answer }, vim.rpcrequest(child, "nvim_win_get_cursor", 0))
  type_keys("!<Esc>u")
  wait("undo", function() return vim.deep_equal({ "3 5 7 2>24", "" }, lines()) end)
  expect({}, lua("return notifications"))
end

function tests.tab_is_a_tab_without_ghost_text()
  setup({ command = program })
  type_keys("ia<Tab>b")
  wait("the text", function() return vim.deep_equal({ "a\tb" }, lines()) end)
end

function tests.works_from_normal_mode()
  setup({ command = program })
  vim.rpcrequest(child, "nvim_buf_set_lines", 0, 0, -1, true, { "3 5 7 2>24", "" })
  type_keys("G:SlaComplete<CR>")
  wait("ghost text", function() return shown() ~= "" end)
  expect("i", vim.rpcrequest(child, "nvim_get_mode").mode)
end

-- A search so wide that it is still running when the cursor moves.
local slow = { width = 4, depth = 3, chunk = 10, min_p = 0, ignore_eos = true }

local function moving_cancels(keys)
  setup({ command = program, max_tokens = 100, request = slow })
  lua([[
    cancelled = 0
    local chansend = vim.fn.chansend
    vim.fn.chansend = function(job, line)
      if vim.json.decode(line).type == "cancel" then cancelled = cancelled + 1 end
      return chansend(job, line)
    end
  ]])
  type_keys("i3 5 7 2>24<CR><C-Space>")
  wait("a draft", function() return shown("SlaDraft") ~= "" end)
  type_keys(keys)
  wait("the ghost text to go", function() return ghost() == nil end)
  expect(1, lua("return cancelled"))
  vim.wait(300)
  expect(nil, ghost())
  expect({}, lua("return notifications"))
end

function tests.moving_cancels() moving_cancels("<Up>") end
function tests.typing_cancels() moving_cancels("x") end
function tests.leaving_insert_mode_cancels() moving_cancels("<Esc>") end
function tests.leaving_the_buffer_cancels() moving_cancels("<Cmd>new<CR>") end

function tests.tab_typed_with_a_letter_is_a_tab()
  setup({ command = program })
  type_keys("i3 5 7 2>24<CR><C-Space>")
  wait("ghost text", function() return shown("SlaCommitted") ~= "" end)
  type_keys("x<Tab>")
  wait("the text", function() return lines()[2] == "x\t" end)
end

function tests.several_lines_utf8_and_pieces()
  local log = vim.fn.tempname()
  setup({
    command = fake(log, {
      '{"type":"ready","protocol":1}\n{"type":"draft","id":1,"text":"naïve\\n\\tx',
      'é"}\n',
      '{"type":"token","id":1,"index":0,"token":7,"text":"na\195',
      '\175ve","logprob":-1,"reward":null}\n{"type":"to',
      'ken","id":1,"index":1,"token":8,"text":"\\n","logprob":-1,"reward":null}\n\n',
    }),
  })
  -- The cursor goes between é and the arrow.
  type_keys("iüé→ end<Left><Left><Left><Left><Left><C-Space>")
  wait("the draft", function() return shown("SlaDraft") == "naïve\n        xé" end)
  expect("naïve\n        xé→ end", shown())
  wait("the tokens", function() return shown("SlaCommitted") == "naïve\n" end)
  expect("\n        xé", shown("SlaDraft"))
  expect({ 0, #"üé" }, vim.list_slice(ghost(), 2, 3))
  expect("üé", sent(log)[1].prompt)
  expect({ "draft" }, sent(log)[1].include)
  lua("vim.cmd('redraw')")
  expect("üénaïve  ", lua([[
    local text = ""
    for column = 1, 9 do text = text .. vim.fn.screenstring(1, column) end
    return text
  ]]))
  type_keys("<Tab>")
  wait("the accepted text", function() return #lines() == 2 end)
  expect({ "üénaïve", "\txé→ end" }, lines())
  expect({ 2, #"\txé" }, vim.rpcrequest(child, "nvim_win_get_cursor", 0))
  wait("the cancel", function() return #sent(log) == 2 end)
  expect({ id = 2, target = 1, type = "cancel" }, sent(log)[2])
end

function tests.errors_are_shown()
  setup({ command = program, request = { widht = 3 } })
  type_keys("i3 5 7 2>24<CR><C-Space>")
  wait("the message", function() return #lua("return notifications") > 0 end)
  expect(1, #lua("return notifications"))
  assert(lua("return notifications")[1]:find("widht"))
end

function tests.a_model_that_cannot_be_loaded_is_told()
  setup({ command = program, model = "no-such-model.gguf" })
  type_keys("i3 5 7 2>24<CR><C-Space>")
  wait("the message", function() return #lua("return notifications") > 0 end)
  assert(lua("return notifications")[1]:find("no%-such%-model"))
end

function tests.a_missing_program_is_told()
  setup({ command = "no-such-engine" })
  type_keys("i3 5 7 2>24<CR><C-Space>")
  wait("the message", function() return #lua("return notifications") > 0 end)
end

local function run()
  if program == "" then error("there is no engine; set SLA") end
  local names, failures = vim.tbl_keys(tests), 0
  table.sort(names)
  for _, name in ipairs(names) do
    child = vim.fn.jobstart({ vim.v.progpath, "--embed", "--headless", "-n", "-u", "NONE" }, { rpc = true })
    local ok, message = pcall(tests[name])
    vim.fn.jobstop(child)
    io.stdout:write(ok and "ok      " or "FAILED  ", name, ok and "" or ": " .. tostring(message), "\n")
    if not ok then failures = failures + 1 end
  end
  return failures
end

local ok, failures = pcall(run)
if not ok then io.stdout:write(failures, "\n") end
vim.cmd(ok and failures == 0 and "quitall!" or "cquit")
