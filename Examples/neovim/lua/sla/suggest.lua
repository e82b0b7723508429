-- The suggestion at the cursor: asking, showing, typing along, taking it.
--
-- An answer knows the text around the place where it was asked for. Whether it fits where the cursor is now is decided by
-- comparing text, never by remembering what happened: the text before the cursor must be the answer's, then a beginning of
-- the answer itself (what was typed along, or taken), and the text behind the cursor must be the same. So nothing that
-- happens to a buffer can leave a suggestion at a place where it does not belong.

local config = require("sla.config")
local draw = require("sla.draw")
local engine = require("sla.engine")
local keys = require("sla.keys")
local pieces = require("sla.pieces")
local trim = require("sla.trim")

local M = {}

local options = config.options

-- answer = { buffer, line_count, rows = lines above its own in before, before, after, place: where it was asked for;
--   blanks = held back from before until the answer has begun, held = how many of them the answer wrote again;
--   tokens = { { text, reward } }, committed, draft, branches = other texts, choice = 0 or the branch shown;
--   id, running, finish, timing, reward, automatic, tries, is_ahead, has_ahead }
local current -- the answer that fits the cursor
local shown -- what of it is on the screen, nil when it has changed since
local answers = {} -- known ones, the latest last; the current one is among them
local ahead -- the one that goes on behind the current one
local dismissed -- the place where nothing is to come until something changes
local waiting -- since when the engine computes without a word, and how far it is
local visible_in -- the buffer with marks of ours
local timer -- to the next automatic request
local told = {} -- messages that automatic requests need not repeat
local latest -- the last call of ask()
local warming -- the id of the request that computes a prompt for later
local most_rows -- lines above the cursor's that fitted an engine that cannot cut a prompt by itself

-- Where the cursor is

local function here()
  local cursor = vim.api.nvim_win_get_cursor(0)
  local line = vim.api.nvim_get_current_line()
  return {
    buffer = vim.api.nvim_get_current_buf(),
    row = cursor[1] - 1,
    column = cursor[2],
    prefix = line:sub(1, cursor[2]),
    rest = line:sub(cursor[2] + 1),
    line_count = vim.api.nvim_buf_line_count(0),
  }
end

local function is_same(one, other)
  return one and one.buffer == other.buffer and one.row == other.row and one.prefix == other.prefix and one.rest == other.rest
end

local function text_before(place, rows)
  local lines = vim.api.nvim_buf_get_lines(place.buffer, place.row - rows, place.row, true)
  table.insert(lines, place.prefix)
  return table.concat(lines, "\n")
end

local function below(place)
  return vim.api.nvim_buf_get_lines(place.buffer, place.row + 1, place.row + 1 + options.suffix_lines, false)
end

local function text_after(place)
  return table.concat(vim.list_extend({ place.rest }, below(place)), "\n")
end

-- The first line that is sent moves in steps, so that the engine finds most of what it knows again after each new line.
local function rows_above(row)
  if row <= options.lines then return row end
  local step = math.max(1, math.floor(options.lines / 2))
  return row - math.floor((row - options.lines) / step) * step
end

local function new_answer(place)
  local rows = rows_above(place.row)
  return {
    buffer = place.buffer,
    place = place,
    line_count = place.line_count,
    rows = rows,
    held = 0,
    before = text_before(place, rows),
    after = text_after(place),
    tokens = {},
    committed = "",
    draft = "",
    branches = {},
    choice = 0,
  }
end

local function text_of(answer)
  return answer.choice > 0 and answer.branches[answer.choice] or answer.committed .. answer.draft
end

-- How many bytes of the answer are before the cursor already; nil where it does not fit.
local function typed_along(answer, place, text)
  if answer.buffer ~= place.buffer then return nil end
  local lines = place.line_count - answer.line_count
  local first = place.row - answer.rows - lines
  if lines < 0 or first < 0 then return nil end
  text = text or text_of(answer)
  local _, most = text:gsub("\n", "")
  if lines > most then return nil end
  -- Most answers are of other lines, which the cursor's line tells.
  if lines == 0 then
    local last = answer.before:match("^.*\n(.*)") or answer.before
    if #place.prefix < #last or not vim.startswith(last .. text, place.prefix) then return nil end
  end
  local before = text_before(place, answer.rows + lines)
  if not vim.startswith(before, answer.before) then return nil end
  local typed = before:sub(#answer.before + 1)
  if not vim.startswith(text, typed) or text_after(place) ~= answer.after then return nil end
  return #typed
end

local function is_inserting()
  return vim.api.nvim_get_mode().mode == "i"
end

-- Completion menus: Neovim's own, and those of plugins that draw theirs.
local function menu_is_open()
  if vim.fn.pumvisible() == 1 then return true end
  for name, method in pairs({ ["cmp"] = "visible", ["blink.cmp"] = "is_visible" }) do
    local plugin = package.loaded[name]
    if type(plugin) == "table" and plugin[method] then
      local ok, open = pcall(plugin[method])
      if ok and open then return true end
    end
  end
  return false
end

local function may_show(place)
  local kind = vim.bo[place.buffer].buftype
  return is_inserting() and (kind == "" or kind == "acwrite") and vim.bo[place.buffer].modifiable and not menu_is_open()
end

-- Whether suggestions come by themselves in a buffer: its own switch, then its filetype's, then the global one.
function M.is_automatic(buffer)
  local own = vim.b[buffer].sla_auto
  if own ~= nil then return own == true or own == 1 end
  local by_type = options.filetypes[vim.bo[buffer].filetype]
  if by_type == nil then by_type = options.filetypes["*"] end
  if by_type == nil then by_type = true end
  return options.auto and by_type == true
end

-- Showing

local function status_changed()
  vim.cmd("redrawstatus")
  pcall(vim.api.nvim_exec_autocmds, "User", { pattern = "SlaStatus", modeline = false })
end

local function hide()
  if visible_in then draw.clear(visible_in) end
  visible_in, shown = nil, nil
  keys.hide()
end

local function info_of(answer)
  if not answer.finish then return nil end
  local words = { ("%d tokens"):format(#answer.tokens) }
  if type(answer.reward) == "number" then table.insert(words, ("reward %.2f"):format(answer.reward)) end
  if answer.timing then table.insert(words, ("%d ms"):format(answer.timing.total_ms or 0)) end
  return table.concat(words, " · ")
end

-- The part of the answer behind what was typed along, in pieces of one highlight each.
local function parts_of(answer, from, length)
  local stop = from + length
  local parts = {}
  local function add(text, start, highlight) -- a text that begins at a byte of the answer, and the part of it that is asked for
    local piece = text:sub(math.max(1, from - start + 1), math.max(0, stop - start))
    if piece ~= "" then table.insert(parts, { piece, highlight }) end
  end
  if answer.choice > 0 then
    add(answer.branches[answer.choice], 0, "SlaBranch")
    return parts
  end
  if options.rewards then
    local least, most = math.huge, -math.huge
    for _, token in ipairs(answer.tokens) do
      if token[2] then least, most = math.min(least, token[2]), math.max(most, token[2]) end
    end
    local start = 0
    for _, token in ipairs(answer.tokens) do
      local share = most > least and token[2] and (token[2] - least) / (most - least)
      add(token[1], start, share and "SlaReward" .. math.min(5, 1 + math.floor(share * 5)) or "SlaCommitted")
      start = start + #token[1]
    end
    add(answer.committed:sub(start + 1), start, "SlaCommitted") -- a draft that was kept when the request was stopped
  else
    add(answer.committed, 0, "SlaCommitted")
  end
  add(answer.draft, #answer.committed, "SlaDraft")
  return parts
end

-- What of the answer belongs at the place, whatever the window has room for.
local function fitting(answer, typed, place)
  local finished = answer.finish == "stop" and answer.choice == 0
  local text = text_of(answer):sub(typed + 1)
  if text == "" then return "" end
  return trim.shown(text, place.prefix, place.rest, below(place), finished)
end

local function show(place, typed)
  local text = fitting(current, typed, place)
  if text == "" then
    hide()
    if current.running and waiting and waiting.late and options.mark then
      visible_in = place.buffer
      draw.mark(options.mark .. (waiting.share and (" %d %%"):format(waiting.share) or ""))
    end
    return
  end
  if visible_in and visible_in ~= place.buffer then hide() end
  visible_in = place.buffer
  shown = draw.suggestion(parts_of(current, typed, #text), options.info and info_of(current) or nil)
  if shown == "" then
    shown = nil
    keys.hide()
  else
    keys.show(place.buffer)
  end
end

-- Requests

local function remember(answer)
  for i = #answers, 1, -1 do
    if answers[i] == answer then table.remove(answers, i) end
  end
  table.insert(answers, answer)
  local most = #answer.before > 262144 and 2 or math.max(options.cache, 2) -- one of a file of endless lines takes its room
  while #answers > most do table.remove(answers, 1) end
end

local function forget(answer)
  for i = #answers, 1, -1 do
    if answers[i] == answer then table.remove(answers, i) end
  end
end

-- Stops an answer's request. What came of it stays known, unless it is nothing.
local function stop(answer)
  if not answer or not answer.running then return end
  answer.running = false
  answer.finish = "cancelled"
  answer.committed, answer.draft = answer.committed .. answer.draft, ""
  engine.cancel(answer.id)
  if answer == current or not current then waiting = nil end
  answer.blanks = nil
  if answer.committed == "" then forget(answer) end
end

local function drop_current()
  stop(current)
  if current then current.choice = 0 end
  current, shown = nil, nil
end

local function drop_ahead()
  stop(ahead)
  ahead = nil
end

-- The blanks at the end of the text before the cursor are left for the model to write: they are part of its next token.
local function hold_back_blanks(answer)
  local blanks = answer.place.prefix:match("[ \t]*$")
  if blanks == "" then return end
  answer.before = answer.before:sub(1, #answer.before - #blanks)
  answer.blanks, answer.held = blanks, #blanks
end

-- Once the answer has begun or ended: one that leaves out the blanks behind a word goes on behind them all the same.
-- False where it cannot be brought together with them.
local function settle_blanks(answer)
  local blanks, text = answer.blanks, answer.committed .. answer.draft
  if not blanks or answer.running and #text < #blanks and vim.startswith(blanks, text) then return true end
  answer.blanks = nil
  if vim.startswith(text, blanks) then return true end
  if text ~= "" and (text:find("^%s") or not answer.before:find("%S$")) then return false end
  answer.before, answer.held = answer.before .. blanks, 0
  return true
end

local function handle(answer, fields, event)
  if event.type == "token" then
    answer.committed = answer.committed .. event.text
    table.insert(answer.tokens, { event.text, type(event.reward) == "number" and event.reward or nil })
    -- The draft began with this token, or it was another branch's.
    answer.draft = vim.startswith(answer.draft, event.text) and answer.draft:sub(#event.text + 1) or ""
  elseif event.type == "commit" then
    answer.draft = ""
    local length, from = 0, tonumber(event.from) or 0
    for i = 1, math.min(from, #answer.tokens) do length = length + #answer.tokens[i][1] end
    for _, branch in ipairs(type(event.rejected) == "table" and event.rejected or {}) do
      if branch.text ~= "" then table.insert(answer.branches, answer.committed:sub(1, length) .. branch.text) end
    end
  elseif event.type == "draft" then
    answer.draft = event.text
  elseif event.type == "progress" then
    local all = tonumber(event.prompt_tokens) or 0
    if waiting and all > 0 then waiting.share = 100 * (tonumber(event.computed) or 0) / all end
  elseif event.type == "done" then
    status_changed()
    answer.draft, answer.running, answer.finish = "", false, event.finish_reason
    answer.timing = type(event.timing) == "table" and event.timing or nil
    answer.reward = event.reward
    if answer.committed == "" and event.finish_reason == "deadline" then
      -- The time was up before the prompt was computed. The engine keeps what it has of it, so another try gets further.
      forget(answer)
      if answer == current and answer.tries < 20 then return M.ask(answer.automatic, answer.held == 0, answer.tries + 1) end
    elseif answer.committed == "" and event.finish_reason == "cancelled" then
      forget(answer)
    end
  elseif event.type == "gone" then
    answer.running, answer.finish = false, "gone"
    answer.committed, answer.draft = answer.committed .. answer.draft, ""
    if answer.committed == "" then forget(answer) end
    if answer == current then current, waiting = nil, nil end
    if answer == ahead then ahead = nil end
  elseif event.type == "error" then
    answer.running = false
    forget(answer)
    if answer == current then current, waiting = nil, nil end
    if answer == ahead then ahead = nil end
    return M.failed(answer, fields, event)
  end
  if not settle_blanks(answer) then
    stop(answer)
    forget(answer)
    if answer == current and is_same(answer.place, here()) then M.ask(answer.automatic, true) end
    return
  end
  if answer == current and (answer.committed ~= "" or answer.draft ~= "" or not answer.running) then waiting = nil end
end

-- The fields of a request for what belongs at a place, as far as the engine knows them.
local function request_for(answer)
  local prompt = answer.before
  if most_rows and most_rows < answer.rows then
    local lines = vim.split(prompt, "\n", { plain = true })
    prompt = table.concat(lines, "\n", #lines - most_rows)
  end
  -- A line of the protocol has 4 MiB. Where lines are that long, the text begins at a place that rarely moves.
  local step = 262144
  if #prompt > 2 * step then prompt = prompt:sub(math.floor((#prompt - step) / step) * step + 1) end
  local fields = { type = "generate", prompt = prompt, max_tokens = options.max_tokens, include = { "draft", "branches" } }
  if engine.knows("include") then table.insert(fields.include, "progress") end
  if engine.knows("truncate") then fields.truncate = "left" end
  if engine.fills_gaps() and answer.after:find("%S") then
    fields.suffix = answer.after:sub(1, step)
    if engine.knows("suffix_tokens") then fields.suffix_tokens = options.suffix_tokens end
  end
  -- In a small context other files would take the place of what counts.
  if (tonumber(engine.model().context_length) or 0) >= 2048 then
    local others = pieces.list(answer.buffer)
    if engine.knows("context") and #others > 0 then fields.context = others end
    if engine.knows("path") and fields.context then fields.path = pieces.path_of(answer.buffer) end
  end
  for name, value in pairs(options.request) do fields[name] = value end
  return fields
end

local function send(answer, fields)
  answer.running = true
  answer.id = engine.generate(vim.deepcopy(fields), function(event)
    if not answer.running then return end
    handle(answer, fields, event)
    if answer == current then M.refresh(true) elseif not current then M.refresh() end
  end)
  remember(answer)
end

-- What an error means: another try without what was refused, or with less text; else a message.
function M.failed(answer, fields, event)
  local again = engine.refuse(event, fields)
  if event.code == "context_overflow" and not again then
    local rows = math.min(answer.rows, most_rows or math.huge)
    most_rows = math.floor(rows / 2)
    again = rows > 0
  end
  if answer.is_ahead then return end
  if again then return M.ask(answer.automatic) end
  local message = tostring(event.message)
  if not answer.automatic or not told[message] then engine.notify(message) end
  told[message] = true
end

-- Asks for a suggestion at the cursor now. with_blanks: the blanks before the cursor are sent too; tries: how often it was
-- asked for before.
function M.ask(automatic, with_blanks, tries)
  local turn = {}
  latest = turn
  engine.when_ready(automatic, function()
    if latest ~= turn then return end -- while the model was loaded, something else was typed
    local place = here()
    if not may_show(place) then return end
    if not tries then waiting = nil end
    drop_current()
    drop_ahead()
    local answer = new_answer(place)
    if not with_blanks then hold_back_blanks(answer) end
    answer.automatic, answer.tries = automatic, tries or 0
    local fields = request_for(answer)
    if automatic then fields.deadline_ms = fields.deadline_ms or options.deadline_ms or nil end
    current = answer
    local this = waiting or {} -- of an earlier try
    waiting = this
    vim.defer_fn(function()
      if waiting ~= this then return end
      waiting.late = true
      M.refresh()
    end, 250)
    send(answer, fields)
    status_changed()
  end)
end

-- Computes the prompt of a suggestion that may be asked for at the cursor, so that it comes soon when it is.
function M.warm()
  local place = here()
  if not engine.knows("max_tokens") or not M.is_automatic(place.buffer) or vim.bo[place.buffer].buftype ~= "" then return end
  local fields = request_for(new_answer(place))
  fields.max_tokens, fields.priority = 0, fields.priority or -1
  engine.cancel(warming)
  warming = engine.generate(fields, function(event)
    if event.type == "error" then engine.refuse(event, fields) end
  end)
end

-- Asks for what comes behind a whole suggestion that is shown, so that it is there when that one has been taken.
local function ask_ahead(place, text)
  if not options.ahead or current.has_ahead or not engine.model() or not M.is_automatic(place.buffer) then return end
  current.has_ahead = true
  drop_ahead()
  local answer = new_answer(place)
  local _, lines = text:gsub("\n", "")
  answer.before = answer.before .. text
  answer.line_count = answer.line_count + lines
  answer.rows = answer.rows + lines
  answer.is_ahead, answer.automatic = true, true
  local fields = request_for(answer)
  fields.deadline_ms = fields.deadline_ms or options.deadline_ms or nil
  fields.priority = fields.priority or -1
  ahead = answer
  send(answer, fields)
end

-- The known answer that shows most recently something at a place; else one that was asked for right here and said nothing.
local function look_up(place)
  local silent
  for i = #answers, 1, -1 do
    local answer = answers[i]
    local typed = typed_along(answer, place)
    if typed then
      if fitting(answer, typed, place) ~= "" then return answer, typed end
      if typed == answer.held or answer.running then silent = silent or { answer, typed } end
    end
  end
  if silent then return silent[1], silent[2] end
end

local function stop_timer()
  if timer then
    timer:stop()
    timer:close()
    timer = nil
  end
end

local function ask_later()
  stop_timer()
  local this = vim.loop.new_timer()
  timer = this
  this:start(options.debounce_ms, 0, vim.schedule_wrap(function()
    if timer ~= this then return end
    stop_timer()
    local place = here()
    if may_show(place) and M.is_automatic(place.buffer) then M.ask(true) end
  end))
end

-- How much of the current answer is before the cursor; nil where it does not fit. Where its text does not, but one of its
-- branches does, that one takes its place.
local function current_typed(place)
  if not current then return nil end
  if current.blanks then return is_same(current.place, place) and 0 or nil end -- nothing can be said before they came
  local typed = typed_along(current, place)
  for choice = 1, typed and 0 or #current.branches do
    typed = typed_along(current, place, current.branches[choice])
    if typed then
      stop(current)
      current.choice, current.has_ahead = choice, nil
      return typed
    end
  end
  return typed
end

local function is_consumed(typed, place)
  return typed > current.held and not current.running and fitting(current, typed, place) == ""
end

-- Brings what is shown up to date with the text, the cursor and the mode; everything that happens ends here.
-- may_ask: whether an automatic request may follow.
function M.refresh(may_ask)
  local place = here()
  if not may_show(place) then
    if vim.startswith(vim.api.nvim_get_mode().mode, "i") then return hide() end -- a completion menu
    return M.leave()
  end
  if dismissed and is_same(dismissed, place) then return hide() end
  dismissed = nil
  local typed = current_typed(place)
  if not typed or is_consumed(typed, place) then
    local known, along = look_up(place)
    if known ~= current then
      local was = current
      current = known
      stop(was)
      if was then was.choice = 0 end
      if known == ahead then ahead = nil else drop_ahead() end
    elseif not typed then
      current = nil
    end
    typed = along or typed
  end
  if current then
    show(place, typed)
    if shown and not current.running and shown == fitting(current, typed, place) then ask_ahead(place, shown) end
    may_ask = may_ask and is_consumed(typed, place)
  else
    hide()
  end
  if may_ask and M.is_automatic(place.buffer) and #place.rest <= options.max_rest
    and vim.fn.reg_recording() == "" and vim.fn.reg_executing() == "" then
    ask_later()
  end
end

-- Called when text, cursor or mode have changed: the time to an automatic request begins anew.
function M.changed()
  stop_timer()
  M.refresh(true)
end

-- Called when the cursor leaves: nothing is shown, and nothing computed, for a place where nobody is.
function M.leave()
  stop_timer()
  drop_current()
  drop_ahead()
  hide()
end

-- What people do

-- Asks at the cursor, whatever automatic suggestions are set to.
function M.complete()
  stop_timer()
  dismissed = nil
  told = {}
  M.ask(false)
end

-- The text on the screen that can be taken; nil where nothing fits the text as it is now.
function M.visible()
  local place = here()
  if not shown or not current or not may_show(place) then return nil end
  local typed = typed_along(current, place)
  if not typed then return nil end
  return shown, place, typed
end

-- Puts what is shown into the buffer, all, its next line or its next word, and the cursor behind it.
-- False where nothing is shown.
function M.accept(kind)
  local text, place, typed = M.visible()
  if not text then return false end
  -- Keys typed ahead of this one may have changed the text since it was drawn.
  show(place, typed)
  text = shown
  if not text then return false end
  text = text:sub(1, trim.part(text, kind))
  hide()
  vim.go.undolevels = vim.go.undolevels -- one undo takes the accepted text back
  local lines = vim.split(text, "\n", { plain = true })
  vim.api.nvim_buf_set_text(place.buffer, place.row, place.column, place.row, place.column, lines)
  local last = lines[#lines]
  vim.api.nvim_win_set_cursor(0, { place.row + #lines, #lines == 1 and place.column + #last or #last })
  M.changed()
  return true
end

-- Shows another branch that the search dropped and that begins like what was typed along: +1 the next, -1 the one before.
function M.cycle(step)
  local text, place, typed = M.visible()
  if not text then return false end
  local so_far = text_of(current):sub(1, typed)
  local count = #current.branches + 1
  local seen = { [text_of(current)] = true }
  for i = 1, count - 1 do
    local choice = (current.choice + step * i) % count
    local other = choice == 0 and current.committed .. current.draft or current.branches[choice]
    if not seen[other] and vim.startswith(other, so_far) and #other > typed then
      local before = current.choice
      current.choice = choice
      if fitting(current, typed, place) ~= "" then
        drop_ahead()
        current.has_ahead = nil
        M.refresh()
        return true
      end
      current.choice = before
    end
  end
  return true -- there is no other; the key is not meant for anything else
end

-- Takes the suggestion off the screen until something is typed.
function M.dismiss()
  if not M.visible() then return false end
  dismissed = here()
  forget(current)
  M.leave()
  return true
end

-- Takes back everything that is shown, asked for and known.
function M.reset()
  M.leave()
  answers, dismissed, waiting, told, warming, most_rows = {}, nil, nil, {}, nil, nil
end

-- For the status line: what the engine does, or what the suggestion shown is like.
function M.status()
  if not engine.is_running() then return "sla off" end
  if not engine.model() then return "sla loading" end
  if not M.is_automatic(vim.api.nvim_get_current_buf()) and not current then return "sla manual" end
  if current and current.running then
    return waiting and waiting.share and ("sla %s %d %%"):format("…", waiting.share) or "sla …"
  end
  local info = current and shown and info_of(current)
  return info and "sla " .. info or "sla"
end

return M
