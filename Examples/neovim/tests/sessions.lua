-- Random editing sessions: the same keys go to a Neovim with the plugin and to one without, which gets as text what the
-- plugin's one accepted. After every step both must hold the same text in all buffers and the same cursor, what is shown
-- must follow from the text before the cursor, and nothing may have gone wrong.
--
--   SESSIONS=500 SEED=1 nvim --headless -u NONE -c 'luafile Examples/neovim/tests/sessions.lua'
--
-- A failure tells its seed; SESSIONS=1 SEED=that repeats the keys, though not the engine's times.

local harness = dofile(vim.fn.fnamemodify(debug.getinfo(1, "S").source:sub(2), ":p:h") .. "/harness.lua")

local words = { "alpha", " beta", "(x)", "\n", "  ", " = ", "ü", "return", ";", "\n\t", "end", "0", " →", ")" }

-- What engine.py answers to a prompt.
local function invent(prompt, suffix)
  local seed, tokens = 7, {}
  for _, byte in ipairs({ (prompt:sub(-40) .. suffix:sub(1, 20)):byte(1, -1) }) do seed = (seed * 31 + byte) % 65521 end
  for _ = 1, seed % 9 do
    seed = (seed * 171 + 11213) % 65521
    table.insert(tokens, words[seed % #words + 1])
  end
  return table.concat(tokens)
end

-- Whether a suggestion follows from the text around the cursor: it goes on an answer to a shorter prompt, of which the
-- rest is before the cursor already, and to the same text behind the cursor.
local function follows(shown, before, after)
  if not after:find("%S") then after = "" end
  for typed = 0, math.min(#before, 120) do
    local prompt, along = before:sub(1, #before - typed), before:sub(#before - typed + 1)
    -- Blanks before the cursor are not sent: the answer repeats them, or leaves them out behind a word.
    local blanks = prompt:match("[ \t]*$")
    local held = prompt:sub(1, #prompt - #blanks)
    for _, case in ipairs({ { prompt, along }, { held, along }, { held, blanks .. along } }) do
      local answer = invent(case[1], after)
      if vim.startswith(answer, case[2]) and vim.startswith(answer:sub(#case[2] + 1), shown) then return true end
    end
  end
  return false
end

local state -- of the session's random numbers
local function random(count)
  state = (state * 1103515245 + 12345) % 2147483648
  return math.floor(state / 65536) % count + 1
end

local function pick(list) return list[random(#list)] end

local hook = [[
  sentinel, records = 0, {}
  for _, mode in ipairs({ "n", "i", "x", "o", "c" }) do
    vim.keymap.set(mode, "<F12>", "<Cmd>lua sentinel = sentinel + 1<CR>")
  end
  vim.cmd("set noswapfile hidden nomore")
  vim.cmd("edit one.txt")
  vim.cmd("edit two.txt")
]]

-- Notes what every key of a suggestion did: the text that it inserted, "" for none, false where it was not for it.
local plugin_hook = [[
  require("sla").setup((...))
  local keys = require("sla.keys")
  for name, action in pairs(keys.actions) do
    keys.actions[name] = function()
      local before = vim.api.nvim_buf_get_lines(0, 0, -1, true)
      local cursor = vim.api.nvim_win_get_cursor(0)
      local handled = action()
      local after = vim.api.nvim_win_get_cursor(0)
      local text = ""
      if handled and name:find("accept") then
        text = table.concat(vim.api.nvim_buf_get_text(0, cursor[1] - 1, cursor[2], after[1] - 1, after[2], {}), "\n")
      end
      table.insert(records, { handled = handled, text = text })
      return handled
    end
  end
]]

local insert_hook = [[
  local text = ...
  local row, column = unpack(vim.api.nvim_win_get_cursor(0))
  local lines = vim.split(text, "\n", { plain = true })
  vim.go.undolevels = vim.go.undolevels
  vim.api.nvim_buf_set_text(0, row - 1, column, row - 1, column, lines)
  vim.api.nvim_win_set_cursor(0, { row - 1 + #lines, (#lines == 1 and column or 0) + #lines[#lines] })
]]

local look = [[
  local buffers = {}
  for _, buffer in ipairs(vim.api.nvim_list_bufs()) do
    if vim.bo[buffer].buflisted then
      buffers[vim.fn.fnamemodify(vim.api.nvim_buf_get_name(buffer), ":t")] = vim.api.nvim_buf_get_lines(buffer, 0, -1, true)
    end
  end
  return {
    buffers = buffers,
    cursor = vim.api.nvim_win_get_cursor(0),
    name = vim.fn.expand("%:t"),
    windows = vim.fn.winnr("$"),
    mode = vim.api.nvim_get_mode().mode,
  }
]]

-- What is on the screen, and whether that can be: false, or what is wrong; then the suggestion, and the
-- text before and behind it.
local check_marks = [[
  local space = vim.api.nvim_create_namespace("sla")
  local cursor = vim.api.nvim_win_get_cursor(0)
  local inserting = vim.api.nvim_get_mode().mode == "i"
  local drawn = ""
  for _, buffer in ipairs(vim.api.nvim_list_bufs()) do
    for _, mark in ipairs(vim.api.nvim_buf_get_extmarks(buffer, space, 0, -1, { details = true })) do
      local details = mark[4]
      if not inserting then return { "a mark outside insert mode" } end
      if buffer ~= vim.api.nvim_get_current_buf() then return { "a mark in another buffer" } end
      if mark[2] ~= cursor[1] - 1 then return { "a mark in another line" } end
      if details.virt_text_pos ~= "eol" and mark[3] ~= cursor[2] then return { "a mark in another column" } end
      for _, row in ipairs(vim.list_extend({ details.virt_text or {} }, details.virt_lines or {})) do
        for _, chunk in ipairs(row) do
          if chunk[2] ~= "SlaInfo" and chunk[2] ~= "Normal" then drawn = drawn .. chunk[1] end
        end
      end
    end
  end
  local shown = require("sla.suggest").visible()
  if (shown or ""):gsub("%s", "") ~= drawn:gsub("%s", "") then
    return { "drawn is " .. vim.inspect(drawn) .. ", to be taken " .. vim.inspect(shown) }
  end
  local before = table.concat(vim.api.nvim_buf_get_text(0, 0, 0, cursor[1] - 1, cursor[2], {}), "\n")
  local after = table.concat(vim.api.nvim_buf_get_text(0, cursor[1] - 1, cursor[2], -1, -1, {}), "\n")
  -- Windows of the same buffer can leave the cursor inside a character, and letters typed there split it. Then the engine's
  -- prompt is not the text byte by byte, and what follows from it is not known here.
  local whole = require("sla.engine").as_utf8(before .. "|" .. after) == before .. "|" .. after
  return { false, whole and shown or false, before, after }
]]

local letters = { "a", "b", "e", "n", "r", "(", ")", "0", ";", " ", "=", "x", "é", "→", "<CR>", "<lt>" }
local editing = { "<BS>", "<BS>", "<BS>", "<Del>", "<C-w>", "<C-u>" }
local moving = { "<Left>", "<Right>", "<Up>", "<Down>", "<Home>", "<End>" }
local special = { "<Tab>", "<Tab>", "<Tab>", "<S-Tab>", "<C-Right>" }
local commands = { "u", "u", "u", "<C-r>", "x", "dd", "o", "O", "A", "I", "i", "p", "yy", "J", ">>", "gg", "G", "P", "cc", "D", "~" }
local elsewhere = {
  "<Cmd>bnext<CR>", "<Cmd>new<CR><Cmd>buffer one.txt<CR>", "<Cmd>if winnr('$') > 1 | close | endif<CR>", "<Cmd>wincmd w<CR>",
}

local function session(seed)
  state = seed
  for _ = 1, 5 do random(2) end
  local command = harness.fake({ invent = true, token_ms = random(3) - 1, first_ms = random(8) })
  local child = harness.start()
  local reference = harness.start({})
  local kills, steps = 0, {}
  local sentinels = 0

  local function fail(message)
    child:stop()
    reference:stop()
    error(("seed %d, behind %s:\n%s"):format(seed, table.concat(steps, " "), message), 0)
  end
  local function both(code) return child:lua(code), reference:lua(code) end
  local function await(which, condition, what)
    if not vim.wait(5000, condition, 1) then fail("waited in vain for " .. what .. " in the one " .. which) end
  end

  child:lua(hook)
  reference:lua(hook)
  local options = { command = command, debounce_ms = random(4) - 1, info = random(2) == 1, rewards = random(2) == 1 }
  child:lua(plugin_hook, options)

  local function send(keys, last)
    table.insert(steps, keys .. (last or ""))
    sentinels = sentinels + 1
    child:lua("records = {}")
    child:type(keys .. (last or "") .. "<F12>")
    await("with it", function() return child:lua("return sentinel") == sentinels end, "the keys")
    local record = child:lua("return records")[1]
    local plain = keys .. (last and not (record and record.handled) and last or "")
    reference:type(plain .. "<F12>")
    await("without it", function() return reference:lua("return sentinel") == sentinels end, "the keys")
    if record and record.handled and record.text ~= "" then reference:lua(insert_hook, record.text) end
  end

  local function check()
    local one, other
    await("with it", function()
      one, other = both(look)
      return vim.deep_equal(one, other)
    end, ("the same text:\n%s\ninstead of\n%s"):format(vim.inspect(one), vim.inspect(other)))
    local result, wrong
    -- Autocommands may still be on their way: what is wrong for longer is wrong.
    vim.wait(1000, function()
      result = child:lua(check_marks)
      wrong = result[1] or result[2] and not follows(result[2], result[3], result[4]) and "a stale suggestion " .. vim.inspect(result[2])
      return not wrong
    end, 1)
    if wrong then fail(wrong .. "\n" .. vim.inspect(child:lua(look))) end
    local message, usual = both("return vim.v.errmsg")
    if message ~= usual then fail(message) end
    local ended = 0
    for _, text in ipairs(child:notifications()) do
      if not text:find("engine ended", 1, true) then fail(text) end
      ended = ended + 1
    end
    if ended > kills then fail("the engine ended by itself") end
    return result[2]
  end

  send("i")
  local shown = check()
  local accepted = 0
  for _ = 1, 40 do
    local kind = random(100)
    local mode = child:request("nvim_get_mode").mode
    if mode ~= "i" then
      send(kind <= 50 and pick(commands) or kind <= 60 and pick(elsewhere) or pick({ "i", "a", "A", "o" }))
    elseif kind <= 25 then
      -- Along the suggestion, where there is one.
      local character = shown and shown:match("^[%z\1-\127\192-\255][\128-\191]*")
      local names = { ["\n"] = "<CR>", ["<"] = "<lt>", ["\t"] = "<C-v><Tab>" }
      send(names[character] or character or pick(letters))
    elseif kind <= 45 then
      send(pick(letters), random(4) == 1 and pick(special) or nil)
    elseif kind <= 70 then
      send("", pick(special))
      if shown then accepted = accepted + 1 end
    elseif kind <= 76 then
      send("", shown and pick({ "<M-]>", "<C-]>", "<M-[>" }) or "<BS>")
    elseif kind <= 84 then
      send(pick(editing))
    elseif kind <= 89 then
      send(pick(moving))
    elseif kind <= 93 then
      send("<Esc>")
    elseif kind <= 96 then
      send(pick(elsewhere))
    elseif kind == 97 then
      table.insert(steps, "(engine killed)")
      kills = kills + 1
      child:lua("local pid = require('sla.engine').pid(); if pid then vim.loop.kill(pid, 9) end")
    elseif kind == 98 then
      send("<C-o>" .. pick({ "x", "u", "0" }))
    else
      send("al<C-n>", pick({ "<C-e>", "<C-y>" }))
    end
    if random(3) > 1 then vim.wait(random(40)) end
    shown = check()
  end
  send("<Esc>")
  check()
  local left = child:lua("return vim.fn.execute('imap <buffer>')")
  if not left:find("No mapping found") then fail("keys are left: " .. left) end
  child:stop()
  reference:stop()
  return accepted
end

local count, first = tonumber(vim.env.SESSIONS) or 5, tonumber(vim.env.SEED) or os.time() % 100000
local failures, accepted = 0, 0
for seed = first, first + count - 1 do
  local ok, result = pcall(session, seed)
  if ok then
    accepted = accepted + result
  else
    failures = failures + 1
    io.stdout:write("FAILED  ", tostring(result), "\n")
    io.stdout:flush()
  end
end
io.stdout:write(("%d sessions from seed %d: %d failed; keys pressed on suggestions: %d\n"):format(count, first, failures, accepted))
vim.cmd(failures == 0 and "quitall!" or "cquit")
