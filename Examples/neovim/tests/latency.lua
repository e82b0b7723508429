-- How long a suggestion takes from the key that asks for it to its first text on the screen.
--
--   SLA=.build/release/sla MODEL=0.5b.gguf nvim --headless -u NONE -c 'luafile Examples/neovim/tests/latency.lua'
--
-- Prints a table: the built-in model, and $MODEL with TOKENS (2000) tokens before the cursor; cold, and while one types,
-- when all but the last letters is in the engine's cache. debounce_ms is 0, so that what is measured is the way and the engine.

local harness = dofile(vim.fn.fnamemodify(debug.getinfo(1, "S").source:sub(2), ":p:h") .. "/harness.lua")

local function median(values)
  table.sort(values)
  return values[math.ceil(#values / 2)]
end

-- Milliseconds of the processor that a process has used, where /proc tells.
local function processor_ms(pid)
  local file = io.open(("/proc/%d/stat"):format(pid))
  if not file then return 0 end
  local user, system = file:read("*a"):match("^.*%)" .. (" %S+"):rep(11) .. " (%d+) (%d+)")
  file:close()
  return 10 * (user + system)
end

-- Milliseconds from a key to the suggestion, those of the processor that the engine used for it, and what done said.
local function key_to_ghost(child, keys)
  child:lua("first, finished = nil, nil")
  local pid = child:lua("return require('sla.engine').pid()")
  local used = processor_ms(pid)
  local start = vim.loop.hrtime()
  child:type(keys)
  if not vim.wait(120000, function() return child:lua("return first") ~= vim.NIL end, 1) then error("there was no suggestion") end
  local seen = child:lua("return first")
  local ms = (seen - start) / 1e6
  vim.wait(120000, function() return child:lua("return finished") ~= vim.NIL end, 1)
  vim.wait(100)
  return ms, processor_ms(pid) - used, child:lua("return finished")
end

local function measure(name, options, tokens)
  local child = harness.start()
  child:lua(
    [[
    require("sla").setup((...))
    local engine = require("sla.engine")
    local generate = engine.generate
    engine.generate = function(fields, handler)
      return generate(fields, function(event)
        if event.type == "done" and event.finish_reason ~= "cancelled" then
          finished = vim.tbl_extend("error", event.timing, event.usage)
        end
        handler(event) -- draws, before it returns
        if event.type == "token" or event.type == "draft" then first = first or vim.loop.hrtime() end -- all processes' clock
      end)
    end
  ]],
    vim.tbl_extend("force", {
      command = harness.program,
      debounce_ms = 0,
      deadline_ms = false,
      ahead = false,
      lines = 100000,
      max_tokens = 1,
      request = { ignore_eos = true },
    }, options)
  )
  child:lua("require('sla.engine').when_ready(false, function() ready = true end)")
  vim.wait(60000, function() return child:lua("return ready") == true end, 5)
  vim.wait(2000) -- the engine packs the model when it has nothing to do
  -- As many lines as have so many tokens; without a number, a game of the built-in model.
  local prompt = { "3 5 7 2>24", "" }
  if tokens then
    local line = "for index, value in ipairs(values) do total = total + value * 2 end"
    local ask = "require('sla.engine').generate({ type = 'tokenize', text = ... }, function(event) length = #event.tokens end)"
    child:lua(ask, line .. "\n")
    vim.wait(5000, function() return child:lua("return length") ~= vim.NIL end, 1)
    prompt = {}
    for i = 1, math.floor(tokens / child:lua("return length")) do prompt[i] = line end
  end
  child:lua("vim.api.nvim_buf_set_lines(0, 0, -1, true, (...)); vim.api.nvim_win_set_cursor(0, { vim.fn.line('$'), 0 })", prompt)
  -- What is behind the cursor counts where the model fills gaps.
  if tokens then child:lua("vim.fn.append('$', vim.fn['repeat']({ 'end' }, 100))") end
  local cold, cold_used, timing = key_to_ghost(child, "A")
  local typing, typing_used, cached = {}, {}, 0
  for i = 1, 9 do
    local ms, used, warm = key_to_ghost(child, ("zqjxkv"):sub(i % 6 + 1, i % 6 + 1)) -- letters that no model suggests: each asks anew
    table.insert(typing, ms)
    table.insert(typing_used, used)
    cached = warm.cached_tokens
  end
  child:stop()
  local function row(what, first, later, tokens)
    local share = first > 0 and (" (%.1f %%)"):format(100 * later / first) or ""
    io.stdout:write(("| %s | %d | %s | %.0f ms | %.0f ms%s | %d |\n"):format(name, timing.prompt_tokens, what, first, later, share, tokens))
  end
  row("key to text", cold, median(typing), cached)
  row("processor", cold_used, median(typing_used), cached)
  io.stdout:flush()
end

io.stdout:write("| model | prompt tokens | | cold | while typing | of these cached |\n| --- | --- | --- | --- | --- | --- |\n")
local ok, message = pcall(function()
  measure("built-in", { lines = 1 })
  if vim.env.MODEL then measure(vim.fn.fnamemodify(vim.env.MODEL, ":t"), { model = vim.env.MODEL }, tonumber(vim.env.TOKENS) or 2000) end
end)
if not ok then io.stdout:write(message, "\n") end
vim.cmd(ok and "quitall!" or "cquit")
