-- Pieces of other texts that are sent along: what was looked at, yanked and saved. They change while nobody types, and the
-- oldest leave several at a time, so that the engine finds them in its cache when text is typed.

local config = require("sla.config")

local M = {}

local ring = {} -- { path, text, words = set of its words, count = how many }, the oldest first
local queue = {} -- those that wait until nobody types

local function words_of(text)
  local words, count = {}, 0
  for word in text:gmatch("[%w_]+") do
    count = count + 1
    words[word] = true
  end
  return words, count
end

-- The share of words that two pieces have in common, from 0 to 1.
local function likeness(one, other)
  if one.count + other.count == 0 then return 1 end
  local size_one, size_other, common = 0, 0, 0
  for word in pairs(one.words) do
    size_one = size_one + 1
    if other.words[word] then common = common + 1 end
  end
  for _ in pairs(other.words) do size_other = size_other + 1 end
  return 2 * common / (size_one + size_other)
end

-- A new piece takes the place of those in a list that are much like it.
local function drop_alike(list, piece)
  for i = #list, 1, -1 do
    if likeness(list[i], piece) > 0.9 then table.remove(list, i) end
  end
end

-- What a buffer's file is called; nil where it has no name, or one that no request may have.
function M.path_of(buffer)
  local path = vim.fn.fnamemodify(vim.api.nvim_buf_get_name(buffer), ":.")
  return path ~= "" and #path <= 1024 and path or nil
end

-- Takes lines of a buffer on; they are used from the next flush() on.
function M.add(buffer, lines)
  if config.options.pieces == 0 or #lines < 3 or not M.path_of(buffer) then return end
  local text = table.concat(lines, "\n", 1, math.min(#lines, config.options.piece_lines)) .. "\n"
  if #text > 16384 or not text:find("%S") then return end
  for _, list in ipairs({ ring, queue }) do
    for _, piece in ipairs(list) do
      if piece.text == text then return end
    end
  end
  local piece = { path = M.path_of(buffer), text = text }
  piece.words, piece.count = words_of(text)
  drop_alike(queue, piece)
  table.insert(queue, piece)
  if #queue > config.options.pieces then table.remove(queue, 1) end
end

-- Takes on the lines around the cursor of the current buffer, where it is a file.
function M.look()
  local buffer = vim.api.nvim_get_current_buf()
  if vim.bo[buffer].buftype ~= "" or not vim.bo[buffer].buflisted then return end
  local row = vim.api.nvim_win_get_cursor(0)[1] - 1
  local half = math.floor(config.options.piece_lines / 2)
  M.add(buffer, vim.api.nvim_buf_get_lines(buffer, math.max(0, row - half), math.max(0, row - half) + config.options.piece_lines, false))
end

-- Puts what waits into the ring; true where that changed it.
function M.flush()
  if #queue == 0 then return false end
  for _, piece in ipairs(queue) do
    drop_alike(ring, piece)
    table.insert(ring, piece)
  end
  queue = {}
  if #ring > config.options.pieces then
    local kept = math.max(1, math.floor(config.options.pieces * 3 / 4))
    ring = vim.list_slice(ring, #ring - kept + 1)
  end
  return true
end

function M.has_waiting() return #queue > 0 end

-- The pieces that a request for a buffer takes along: those of other files, the oldest first.
function M.list(buffer)
  local path, list = M.path_of(buffer), {}
  for _, piece in ipairs(ring) do
    if piece.path ~= path then table.insert(list, { path = piece.path, text = piece.text }) end
  end
  return list
end

function M.reset() ring, queue = {}, {} end

return M
