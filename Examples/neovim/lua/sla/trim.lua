-- What of an answer is worth showing: not what repeats the text behind the cursor, nor what cannot be shown.
-- Pure functions of text, so that tests can call them.

local M = {}

local opener_of = { [")"] = "(", ["]"] = "[", ["}"] = "{" }

-- Whether the end of a text, cut off at a place, goes with what is before the place: its brackets open there, or its quotes.
local function belongs(text, cut)
  local kept, tail = text:sub(1, cut), text:sub(cut + 1)
  for closer, opener in pairs(opener_of) do
    local _, closers = tail:gsub("%" .. closer, "")
    if closers > 0 then
      local _, opened = kept:gsub("%" .. opener, "")
      local _, closed = kept:gsub("%" .. closer, "")
      if opened > closed then return true end
    end
  end
  for _, quote in ipairs({ '"', "'", "`" }) do
    local _, inside = tail:gsub(quote, "")
    local _, all = text:gsub(quote, "")
    if inside > 0 and all % 2 == 0 then return true end
  end
  return false
end

-- A line without its longest end with which the rest of the cursor's line begins; nil where there is none.
local function without_rest(line, rest)
  for length = math.min(#line, #rest), 1, -1 do
    if line:sub(-length) == rest:sub(1, length) and rest:sub(1, length):find("%S") then
      -- Half a word or half a character in common is chance.
      local next_byte = rest:sub(length + 1, length + 1)
      local cut = #line - length
      local splits_word = line:sub(-1):find("[%w_\128-\255]") and next_byte:find("[%w_\128-\255]")
      local begins_inside = line:sub(cut, cut):find("[%w_\128-\255]") and rest:sub(1, 1):find("[%w_\128-\255]")
      if not splits_word and not begins_inside and not belongs(line, cut) then return line:sub(1, cut) end
    end
  end
end

-- Where the lines from an index on repeat those below the cursor. The last may have only begun, while more can come.
local function repeats(lines, from, below, finished)
  local first = 1
  while below[first] and not below[first]:find("%S") and lines[from]:find("%S") do first = first + 1 end
  for i = from, #lines do
    local other = below[first + i - from]
    if not other then return false end
    local begun = i == #lines and not finished and lines[i]:find("%S") and vim.startswith(other, lines[i])
    if lines[i] ~= other and not begun then return false end
  end
  return true
end

-- The part of an answer that is shown.
--   prefix: the cursor's line up to it; rest: what follows in it; below: the lines below
--   finished: whether the model ended the answer itself, so that nothing can follow
function M.shown(text, prefix, rest, below, finished)
  text = text:match("^[^%z\1-\8\11-\31\127]*") -- from a control character on the answer cannot be shown as it is
  local lines = vim.split(text, "\n", { plain = true })

  if rest:find("%S") then
    local bare = rest:gsub("%s+$", "")
    for i, line in ipairs(lines) do
      -- In a line of its own the rest of the cursor's line must stand whole; in the last one a beginning of it will do.
      local shorter = (i == #lines or vim.endswith(line, bare)) and without_rest(line, rest)
      if shorter and not (i > 1 and belongs(table.concat(lines, "\n", 1, i), #table.concat(lines, "\n", 1, i) - (#line - #shorter))) then
        lines = vim.list_slice(lines, 1, i)
        lines[i] = shorter
        break
      end
    end
  end

  for i = 1, #lines do
    local compared = lines
    if i == 1 then
      compared = vim.list_extend({ prefix .. lines[1] }, vim.list_slice(lines, 2))
    end
    if compared[i]:find("%S") and (i > 1 or rest == "") and repeats(compared, i, below, finished) then
      lines = vim.list_slice(lines, 1, i - 1)
      break
    end
  end

  while #lines > 0 and not lines[#lines]:find("%S") do table.remove(lines) end
  return table.concat(lines, "\n")
end

-- How long the next word is, with blanks and line ends before it; with kind "line" the next line.
function M.part(text, kind)
  if kind == "all" then return #text end
  local pattern = kind == "line" and "^\n*[^\n]*" or "^%s*[%w_\128-\255]+"
  local _, stop = text:find(pattern)
  if kind == "word" and not stop then _, stop = text:find("^%s*[^%s%w_\128-\255]+") end
  return stop or #text
end

return M
