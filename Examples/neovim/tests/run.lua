-- Types into a Neovim that runs the plugin, with engines of scripted answers and with the real one ($SLA, else sla on the path):
--
--   SLA=.build/release/sla nvim --headless -u NONE -c 'luafile Examples/neovim/tests/run.lua'
--
-- TEST=name runs the tests whose name contains it. Exits with 0 when every test passes, else with 1.

local harness = dofile(vim.fn.fnamemodify(debug.getinfo(1, "S").source:sub(2), ":p:h") .. "/harness.lua")
local expect, wait, fake = harness.expect, harness.wait, harness.fake
local program = harness.program

local child -- the Neovim under test

local defaults = { debounce_ms = 5, ahead = false }

local function setup(options)
  child:lua([[require("sla").setup((...))]], vim.tbl_extend("force", defaults, options))
end

-- An editor with an engine that answers as told; returns what reads the requests.
local function start(script, options)
  local command, sent = fake(script)
  setup(vim.tbl_extend("force", { command = command }, options or {}))
  return sent
end

local function answering(text, more)
  return { answers = { vim.tbl_extend("force", { ends = "", text = text }, more or {}) } }
end

-- After what is on its way has come.
local function settle() vim.wait(60) end

local tests = {}

-- Suggestions by themselves

function tests.suggests_while_one_types()
  local sent = start({ answers = { { ends = "local x", text = " = 1" } } })
  child:type("ilocal x")
  child:wait_ghost(" = 1")
  expect({ "local x" }, child:lines())
  expect("local x", sent("generate")[1].prompt)
  expect("local x = 1", child:screen(1)[1])
end

function tests.waits_until_one_pauses()
  local sent = start(answering("ok"), { debounce_ms = 100 })
  for letter in ("abcdef"):gmatch(".") do
    child:type(letter == "a" and "ia" or letter)
    vim.wait(10)
  end
  child:wait_ghost("ok")
  local prompts = vim.tbl_map(function(request) return request.prompt end, sent("generate"))
  expect({ "abcdef" }, prompts)
end

function tests.asks_only_when_told_without_auto()
  local sent = start(answering("ok"), { auto = false })
  child:type("iab")
  vim.wait(150)
  expect({}, sent())
  child:type("<C-Space>")
  child:wait_ghost("ok")
end

function tests.asks_from_normal_mode()
  start(answering("ok"), { auto = false })
  child:set_lines({ "ab" })
  child:type(":SlaComplete<CR>")
  child:wait_ghost("ok")
  expect("i", child:request("nvim_get_mode").mode)
end

function tests.filetypes_and_buffers_have_switches()
  local sent = start(answering("ok"), { filetypes = { markdown = false } })
  child:lua("vim.bo.filetype = 'markdown'")
  child:type("iab")
  vim.wait(100)
  expect({}, sent())
  child:lua("vim.bo.filetype = 'lua'")
  child:type("c")
  child:wait_ghost("ok")
  child:type("<Cmd>SlaToggle!<CR>")
  child:wait_ghost("")
  child:type("d")
  vim.wait(100)
  expect("", child:ghost())
  child:type("<Cmd>SlaToggle!<CR>")
  child:wait_ghost("ok")
  child:type("<Cmd>SlaToggle<CR>e")
  vim.wait(100)
  expect("", child:ghost())
end

function tests.nothing_by_itself_before_a_long_rest()
  local sent = start(answering("ok"))
  child:set_lines({ "f(123456789" })
  child:type("ia")
  vim.wait(100)
  expect({}, sent())
  child:type("<C-Space>")
  child:wait_ghost("ok")
end

function tests.nothing_by_itself_in_a_macro()
  local sent = start(answering("ok"))
  child:type("qqiab")
  vim.wait(100)
  expect({}, sent())
  child:type("<Esc>q")
  child:type("ob")
  child:wait_ghost("ok")
end

function tests.automatic_answers_have_a_deadline()
  local sent = start(answering("ok"), { deadline_ms = 1234 })
  child:type("ia")
  child:wait_ghost("ok")
  child:type("<C-Space>")
  wait("the second request", function() return #sent("generate") == 2 end)
  expect(1234, sent("generate")[1].deadline_ms)
  expect(nil, sent("generate")[2].deadline_ms)
end

function tests.a_prompt_longer_than_the_deadline_is_gone_on_with()
  local sent = start({ answers = { { ends = "a", tokens = {}, first_ms = 20, finish = "deadline" } } })
  child:type("ia")
  wait("another try", function() return #sent("generate") > 3 end)
  vim.wait(1000)
  expect(21, #sent("generate"))
end

function tests.a_mark_shows_that_the_engine_computes()
  start({ answers = { { ends = "a", text = "ok", first_ms = 500 }, { ends = "b", text = "ok", first_ms = 500, progress = 40 } } })
  local function mark(text)
    wait("the mark", function() return child:marks()[1] and child:marks()[1][4].virt_text[1][1] == text end)
  end
  child:type("ia")
  mark("…")
  expect("sla …", child:lua("return require('sla').status()"))
  child:wait_ghost("ok")
  child:type("b")
  mark("… 40 %")
  expect("sla … 40 %", child:lua("return require('sla').status()"))
  child:wait_ghost("ok")
end

-- Typing along

function tests.typing_along_keeps_it()
  local sent = start({ answers = { { ends = "a", text = "bcdef" } } })
  child:type("ia")
  child:wait_ghost("bcdef")
  child:type("bc")
  child:wait_ghost("def")
  child:type("d")
  child:wait_ghost("ef")
  settle()
  expect(1, #sent("generate"))
  child:type("<BS>")
  child:wait_ghost("def")
  expect(1, #sent())
end

function tests.typing_along_while_it_comes_keeps_it()
  local sent = start({ answers = { { ends = "a", tokens = { "b", "c", "d", "e", "f" }, token_ms = 60 } } })
  child:type("ia")
  wait("some of it", function() return #child:ghost() >= 2 end)
  child:type("b")
  child:wait_ghost("cdef")
  expect(1, #sent())
end

function tests.a_draft_that_was_typed_along_and_not_chosen_is_asked_for_anew()
  start({ answers = { { ends = "ab", text = "new" }, { ends = "a", tokens = { "x", "y" }, drafts = { { 0, "bc" } }, token_ms = 150 } } })
  child:type("ia")
  child:wait_ghost("bc")
  child:type("b")
  child:wait_ghost("c")
  child:wait_ghost("new")
end

function tests.typing_along_over_lines_keeps_it()
  start({ answers = { { ends = "{", text = "\n  a\n}" } } })
  child:type("i{")
  child:wait_ghost("\n  a\n}")
  child:type("<CR>  ")
  child:wait_ghost("a\n}")
end

function tests.typing_something_else_drops_and_cancels_it()
  local sent = start({ answers = { { ends = "a", tokens = { "b", "c", "d" }, token_ms = 5000 } } })
  child:type("ia")
  child:wait_ghost("b")
  child:type("x")
  child:wait_ghost("")
  wait("the cancel", function() return sent("cancel")[1] end)
  expect(sent("generate")[1].id, sent("cancel")[1].target)
end

function tests.typing_towards_a_dropped_branch_brings_it_up()
  start({ answers = { { ends = "a", text = "bcd", rejected = { "bxy", "qrs" } } } })
  child:type("ia")
  child:wait_ghost("bcd")
  settle()
  child:type("q")
  child:wait_ghost("rs")
end

local function leaving(keys)
  local sent = start({ answers = { { ends = "a", tokens = { "b", "c" }, token_ms = 5000 } } })
  child:type("ia")
  child:wait_ghost("b")
  child:type(keys)
  wait("the ghost text to go", function() return child:ghost() == "" end)
  wait("the cancel", function() return sent("cancel")[1] end)
  expect({}, child:notifications())
end

function tests.moving_drops_it() leaving("<Left>") end
function tests.leaving_insert_mode_drops_it() leaving("<Esc>") end
function tests.another_window_drops_it() leaving("<Cmd>new<CR>") end
function tests.another_buffer_drops_it() leaving("<Cmd>enew!<CR>") end

function tests.a_change_from_elsewhere_drops_it()
  start({ answers = { { ends = "a", text = "b" } } })
  child:type("ia")
  child:wait_ghost("b")
  child:request("nvim_buf_set_text", 0, 0, 0, 0, 0, { "zz" })
  child:wait_ghost("")
end

-- Known suggestions

function tests.known_suggestions_come_back_at_once()
  local sent = start({ answers = { { ends = "a", text = "bc" }, { ends = "ax", text = "yz" } } })
  child:type("ia")
  child:wait_ghost("bc")
  child:type("x")
  child:wait_ghost("yz")
  local asked = #sent("generate")
  child:type("<BS>")
  child:wait_ghost("bc")
  child:type("<Esc>a")
  child:wait_ghost("bc")
  child:type("x")
  child:wait_ghost("yz")
  settle()
  expect(asked, #sent("generate"))
end

function tests.an_empty_answer_is_known_too()
  local sent = start({ answers = {} })
  child:type("ia")
  wait("the request", function() return #sent() == 1 end)
  vim.wait(100)
  child:type("<Esc>a")
  vim.wait(100)
  expect(1, #sent("generate"))
end

function tests.what_follows_is_asked_for_ahead()
  local sent = start({ answers = { { ends = "abc", text = " next", first_ms = 300 }, { ends = "a", text = "bc" } } }, { ahead = true })
  child:type("ia")
  child:wait_ghost("bc")
  wait("the request ahead", function() return #sent("generate") == 2 end)
  expect({ "abc", -1 }, { sent("generate")[2].prompt, sent("generate")[2].priority })
  child:type("<Tab>")
  child:wait_lines({ "abc" })
  child:wait_ghost(" next")
  expect(0, #sent("cancel"))
end

function tests.what_was_asked_ahead_in_vain_is_cancelled()
  local sent = start({ answers = { { ends = "abc", text = " next", first_ms = 5000 }, { ends = "a", text = "bc" } } }, { ahead = true })
  child:type("ia")
  child:wait_ghost("bc")
  wait("the request ahead", function() return #sent("generate") == 2 end)
  child:type("x")
  wait("the cancel", function() return sent("cancel")[1] end)
  expect(sent("generate")[2].id, sent("cancel")[1].target)
end

function tests.keeping_up_with_the_text_costs_little()
  start(answering("so on"))
  child:lua([[
    local lines = {}
    for i = 1, 20000 do lines[i] = ("local value%d = compute(alpha, beta)"):format(i) end
    vim.api.nvim_buf_set_lines(0, 0, -1, true, lines)
    vim.api.nvim_win_set_cursor(0, { 10000, 0 })
  ]])
  child:type("A")
  for i = 1, 30 do
    child:wait_ghost("so on")
    child:type(i % 3 == 0 and "x<CR>" or "x")
  end
  child:wait_ghost("so on")
  local function quick()
    local seconds = child:lua([[
      local start = os.clock() -- the processor's time
      for _ = 1, 200 do require("sla.suggest").refresh() end
      return (os.clock() - start) / 200
    ]])
    assert(seconds < 0.002, ("%.1f ms"):format(1000 * seconds))
  end
  quick()
  child:set_lines({ string.rep("x", 20000) }, 1, 20000)
  child:type("y")
  child:wait_ghost("so on")
  quick()
end

-- Taking it

function tests.tab_takes_all()
  start({ answers = { { ends = "(", text = "a,\n\tb)\nend" } } })
  child:type("if(")
  child:wait_ghost("a,\n        b)\nend")
  child:type("<Tab>")
  child:wait_lines({ "f(a,", "\tb)", "end" })
  expect({ 3, 3 }, child:cursor())
  expect("", child:ghost())
  child:type("!<Esc>u")
  child:wait_lines({ "f(" })
end

function tests.takes_a_line()
  start({ answers = { { ends = "(", text = "a,\n  b)\nend" } } })
  child:type("if(")
  child:wait_ghost("a,\n  b)\nend")
  child:type("<S-Tab>")
  child:wait_lines({ "f(a," })
  child:wait_ghost("\n  b)\nend")
  child:type("<S-Tab>")
  child:wait_lines({ "f(a,", "  b)" })
  child:wait_ghost("\nend")
  expect({ 2, 4 }, child:cursor())
end

function tests.takes_a_word()
  start({ answers = { { ends = "x", text = " = naïve(y) + 1" } } })
  child:type("ix")
  child:wait_ghost(" = naïve(y) + 1")
  for _, line in ipairs({ "x =", "x = naïve", "x = naïve(", "x = naïve(y" }) do
    child:type("<C-Right>")
    child:wait_lines({ line })
  end
  child:wait_ghost(") + 1")
end

function tests.branches_are_shown_in_turn()
  start({ answers = { { ends = "a", text = "one", rejected = { "two", "three" } } } })
  child:type("ia")
  child:wait_ghost("one")
  settle()
  child:type("<M-]>")
  child:wait_ghost("two")
  child:type("<M-]>")
  child:wait_ghost("three")
  child:type("<M-]>")
  child:wait_ghost("one")
  child:type("<M-[>")
  child:wait_ghost("three")
  child:type("<Tab>")
  child:wait_lines({ "athree" })
end

function tests.dismissing_keeps_it_away_until_something_is_typed()
  local sent = start(answering("ok"))
  child:type("ia")
  child:wait_ghost("ok")
  child:type("<C-]>")
  child:wait_ghost("")
  vim.wait(100)
  expect("", child:ghost())
  expect(1, #sent("generate"))
  child:type("b")
  child:wait_ghost("ok")
end

function tests.the_draft_is_shown_and_taken()
  start({ answers = { { ends = "a", tokens = { "bc", "de" }, drafts = { { 0, "bcx\n\tyé" }, { 1, "dz" } }, token_ms = 300 } } })
  child:type("ia")
  wait("the draft", function() return child:ghost("SlaDraft") == "bcx\n        yé" end)
  wait("the token", function() return child:ghost("SlaCommitted") == "bc" end)
  wait("the second draft", function() return child:ghost("SlaDraft") == "dz" end)
  child:type("<Tab>")
  child:wait_lines({ "abcdz" })
end

-- Nothing is inserted that was not shown

function tests.rows_below_the_window_are_not_inserted()
  start({ answers = { { ends = "{", text = "1\n2\n3\n4\n5\n6" } } })
  local lines = {}
  for i = 1, 40 do lines[i] = tostring(i) end
  child:set_lines(lines)
  child:type("Gzbkko{")
  local height = child:lua("return vim.api.nvim_win_get_height(0)")
  wait("the rows", function() return vim.deep_equal({ "{1", "2⏎ +4" }, vim.list_slice(child:screen(height), height - 1)) end)
  child:type("<Tab>")
  wait("the accepted rows", function() return #child:lines() == 43 end)
  expect({ "{1", "2", "" }, vim.list_slice(child:lines(), 39, 41))
  child:wait_ghost("3")
end

function tests.the_last_row_of_the_window_has_room_for_one()
  start({ answers = { { ends = "{", text = "\n2\n3" } } })
  local lines = {}
  for i = 1, 40 do lines[i] = tostring(i) end
  child:set_lines(lines)
  child:type("Gzbo{")
  wait("the sign", function()
    local height = child:lua("return vim.api.nvim_win_get_height(0)")
    return child:screen(height)[height] == "{⏎ +2"
  end)
  child:type("<Tab>")
  wait("a new line", function() return #child:lines() == 42 end)
  child:wait_ghost("2")
end

function tests.long_lines_are_wrapped_and_shown_whole()
  local long = string.rep("abcdefghi ", 20)
  start({ answers = { { ends = ":", text = long .. "end" } } })
  child:type("i:")
  wait("ghost text", function() return child:ghost():gsub("\n", "") == long .. "end" end)
  expect({ (":" .. long):sub(1, 80), (":" .. long):sub(81, 160), (":" .. long):sub(161) .. "end" }, child:screen(3))
  child:type("<Tab>")
  child:wait_lines({ ":" .. long .. "end" })
end

function tests.what_follows_the_cursor_is_drawn_behind()
  start({ answers = { { ends = "f(", text = "x,\n  y" } } })
  child:set_lines({ "f( -> end" })
  child:lua("require('sla.config').options.max_rest = 80")
  child:type("0la")
  child:wait_ghost("x,\n  y")
  expect({ "f(x,", "  y -> end", "~" }, child:screen(3))
  child:type("<Tab>")
  child:wait_lines({ "f(x,", "  y -> end" })
  expect({ 2, 3 }, child:cursor())
end

function tests.what_follows_the_cursor_is_moved()
  start({ answers = { { ends = "f(", text = "naïve" } } })
  child:set_lines({ "f()→" })
  child:type("0la")
  child:wait_ghost("naïve")
  expect("f(naïve)→", child:screen(1)[1])
  local inline = child:marks()[1][4].virt_text_pos
  expect(vim.fn.has("nvim-0.10") == 1 and "inline" or "overlay", inline)
end

function tests.control_characters_are_not_inserted()
  start({ answers = { { ends = "a", tokens = { "b\nc", "d\27[2J", "e" } } } })
  child:type("ia")
  child:wait_ghost("b\ncd")
  child:type("<Tab>")
  child:wait_lines({ "ab", "cd" })
end

function tests.a_key_typed_ahead_goes_with_the_text_not_the_ghost()
  start({ answers = { { ends = "a", text = "bc" } } })
  child:type("ia")
  child:wait_ghost("bc")
  child:type("x<Tab>")
  child:wait_lines({ "ax\t" })
  child:type("<BS><BS>")
  child:wait_ghost("bc")
  child:type("b<Tab>")
  child:wait_lines({ "abc" })
end

-- What repeats the text behind the cursor

function tests.what_repeats_the_rest_of_the_line_is_cut()
  start({ answers = { { ends = "compute(", text = "alpha, beta))\nmore" }, { ends = "print(", text = "f(x)" } } })
  child:set_lines({ "compute()" })
  child:type("A<Left>")
  child:wait_ghost("alpha, beta)")
  child:type("<C-U>print(")
  child:wait_ghost("f(x)")
  child:type("<Tab>")
  child:wait_lines({ "print(f(x))" })
end

function tests.what_repeats_the_lines_below_is_cut()
  start({ answers = { { ends = "{", text = "\n  one()\n}\n\nfunction g() {" } } })
  child:set_lines({ "function f() {", "}", "", "function g() {", "}" })
  child:type("A")
  child:wait_ghost("\n  one()")
end

function tests.trim_by_cases()
  local trim = dofile(harness.root .. "/lua/sla/trim.lua")
  for i, case in ipairs({
    -- text, prefix, rest, below, finished, expected
    { "alpha, beta)", "compute(", ")", {}, true, "alpha, beta" },
    { "f(x)", "print(", ")", {}, true, "f(x)" },
    { "f(x))", "print(", ")", {}, true, "f(x)" },
    { 'hello"', 'print("', '")', {}, true, "hello" },
    { '"a"', "f(", '"', {}, true, '"a"' },
    { "x + 1;", "y = ", ";", {}, true, "x + 1" },
    { "bar", "foo", "barn", {}, true, "bar" },
    { "a(", "", "", { "}" }, true, "a(" },
    { "}", "", "", { "}" }, true, "" },
    { "}", "  ", "", { "}" }, true, "}" },
    { "\n}", "{", "", { "}" }, true, "" },
    { "a\n\n", "", "", {}, true, "a" },
    { "  \n ", "", "", {}, true, "" },
    { "x\n  ret", "", "", { "  return y" }, false, "x" },
    { "x\n  ret", "", "", { "  return y" }, true, "x\n  ret" },
    { "one\ntwo", "", "", { "", "two", "three" }, true, "one" },
    { "\n  a,\n  b\n)", "f(", ")", {}, true, "\n  a,\n  b" },
    { "é", "", "é", {}, true, "" },
    { "a b", "", "", { "a b c" }, true, "a b" },
  }) do
    local got = trim.shown(case[1], case[2], case[3], case[4], case[5])
    if got ~= case[6] then error(("case %d: expected %s, got %s"):format(i, vim.inspect(case[6]), vim.inspect(got))) end
  end
  expect({ 4, 2, 3, 3, 1 }, {
    trim.part("\n  a b", "word"),
    trim.part(" = b", "word"),
    trim.part("\nab\nc", "line"),
    trim.part("abc", "all"),
    trim.part("é", "word") - 1,
  })
end

-- Blanks before the cursor

function tests.blanks_are_left_for_the_model_to_write()
  local sent = start({ answers = { { ends = "{\n", text = "    return 1" } } })
  child:type("if {<CR>  ")
  child:wait_ghost("  return 1")
  expect("f {\n", sent("generate")[#sent("generate")].prompt)
  child:type("<Tab>")
  child:wait_lines({ "f {", "    return 1" })
end

function tests.an_answer_without_the_blanks_goes_on_behind_them()
  start({ answers = { { ends = "x =", text = "5" } } })
  child:type("ix = ")
  child:wait_ghost("5")
  child:type("<Tab>")
  child:wait_lines({ "x = 5" })
end

function tests.blanks_are_sent_when_the_model_does_not_write_them()
  local sent = start({ answers = { { ends = "{\n", text = "}" }, { ends = "{\n  ", text = "a" } } })
  child:type("i{<CR>  ")
  child:wait_ghost("a")
  expect("{\n  ", sent("generate")[#sent("generate")].prompt)
end

-- Keys and menus

local function tab_was(map, expected)
  child:lua(map)
  start({ answers = { { ends = "a", text = "bc" } } })
  child:type("iz<Tab>")
  child:wait_lines({ "z" .. expected })
  child:type("a")
  child:wait_ghost("bc")
  child:type("<Tab>")
  child:wait_lines({ "z" .. expected .. "abc" })
  child:type("<Tab>")
  child:wait_lines({ "z" .. expected .. "abc" .. expected })
  -- Typed ahead, when the mapping of the suggestion is still there.
  child:type("a")
  child:wait_ghost("bc")
  child:type("y<Tab>")
  child:wait_lines({ "z" .. expected .. "abc" .. expected .. "ay" .. expected })
end

function tests.tab_is_a_tab() tab_was("", "\t") end
function tests.tab_is_a_global_mapping() tab_was("vim.cmd('inoremap <Tab> G')", "G") end
function tests.tab_is_a_mapping_of_the_buffer() tab_was("vim.cmd('inoremap <buffer> <Tab> B')", "B") end
function tests.tab_is_an_expression() tab_was("vim.cmd([[inoremap <expr> <Tab> 'E' .. 'x']])", "Ex") end
function tests.tab_is_an_expression_of_the_buffer() tab_was("vim.cmd([[inoremap <buffer> <expr> <Tab> 'E' .. 'x']])", "Ex") end
function tests.tab_is_a_plug() tab_was("vim.cmd('inoremap <Plug>(other) P'); vim.cmd('imap <buffer> <Tab> <Plug>(other)')", "P") end
function tests.tab_is_a_function()
  tab_was("vim.keymap.set('i', '<Tab>', function() vim.api.nvim_put({ 'L' }, 'c', false, true) end, { buffer = true })", "L")
end
function tests.tab_is_an_expression_in_lua()
  tab_was("vim.keymap.set('i', '<Tab>', function() return 'L<Space>' end, { buffer = true, expr = true })", "L ")
end

function tests.other_mappings_are_as_before()
  child:lua("vim.cmd('inoremap <buffer> <silent> <Tab> B')")
  child:lua("vim.keymap.set('i', '<S-Tab>', function() end, { buffer = true, desc = 'mine' })")
  local function mappings() return (child:lua("return vim.fn.execute('imap <buffer>')"):gsub("<Lua[^>]*>", "<Lua>")) end
  local before = mappings()
  start({ answers = { { ends = "a", text = "bc" } } })
  child:type("ia")
  child:wait_ghost("bc")
  child:type("<Esc>")
  child:wait_ghost("")
  expect(before, mappings())
  -- A plugin that takes the key while a suggestion is shown keeps it.
  child:type("A")
  child:wait_ghost("bc")
  child:lua("vim.cmd('inoremap <buffer> <Tab> T')")
  child:type("<Esc>")
  child:wait_ghost("")
  expect("T", child:lua("return vim.fn.maparg('<Tab>', 'i')"))
end

function tests.a_mapped_trigger_is_not_taken_by_default()
  child:lua("vim.cmd('inoremap <C-Space> mine')")
  start(answering("ok"), { auto = false })
  child:type("i<C-Space>")
  child:wait_lines({ "mine" })
end

function tests.keys_can_be_others_or_none()
  start(answering("ok"), { accept = "<C-L>", accept_word = false, trigger = false })
  child:type("ia")
  child:wait_ghost("ok")
  child:type("<Tab>")
  child:wait_lines({ "a\t" })
  child:wait_ghost("ok")
  child:type("<C-L>")
  child:wait_lines({ "a\tok" })
end

function tests.plug_mappings_work()
  start(answering("ok"), { auto = false, accept = false, trigger = false })
  child:lua("vim.cmd('imap <C-T> <Plug>(sla-complete)'); vim.cmd('imap <C-L> <Plug>(sla-accept)')")
  child:type("ia<C-T>")
  child:wait_ghost("ok")
  child:type("<C-L>")
  child:wait_lines({ "aok" })
  expect(false, child:lua("return require('sla').accept()"))
end

function tests.a_completion_menu_comes_first()
  start({ answers = { { ends = "al", text = "so" } } })
  child:set_lines({ "alpha alto", "" }, 2)
  child:lua("vim.cmd([[inoremap <expr> <Tab> pumvisible() ? '<C-n>' : '<Tab>']])")
  child:type("ial")
  child:wait_ghost("so")
  child:type("<C-n>")
  wait("the menu", function() return child:lua("return vim.fn.pumvisible()") == 1 end)
  expect("", child:ghost())
  child:type("<Tab>")
  child:wait_lines({ "alpha alto", "alto" })
  child:type("<C-e>")
  child:wait_lines({ "alpha alto", "al" })
  child:wait_ghost("so")
end

function tests.menus_of_other_plugins_come_first()
  start(answering("ok"))
  child:lua("open = true; package.loaded.cmp = { visible = function() return open end }")
  child:type("ia")
  vim.wait(100)
  expect("", child:ghost())
  child:lua("open = false")
  child:type("b")
  child:wait_ghost("ok")
end

function tests.replace_mode_has_no_suggestions()
  local sent = start(answering("ok"))
  child:set_lines({ "abc" })
  child:type("Rx")
  vim.wait(100)
  expect({}, sent())
end

-- What is sent

function tests.gaps_are_filled()
  local sent = start({ answers = { { ends = "f(", text = "x" } } }, { suffix_tokens = 99 })
  child:set_lines({ "one", "f()", "three" }, 2, 2)
  child:type("i<C-Space>")
  child:wait_ghost("x")
  local request = sent("generate")[1]
  expect({ "one\nf(", ")\nthree", 99, "left" }, { request.prompt, request.suffix, request.suffix_tokens, request.truncate })
end

function tests.an_older_engine_gets_what_it_knows()
  local sent = start({
    ready = { name = "old", context_length = 128 },
    refuses = { "suffix", "suffix_tokens", "truncate", "context", "path", "prediction" },
    answers = { { ends = "f(", text = "x" } },
  })
  child:set_lines({ "f()" }, 1, 2)
  child:lua("vim.cmd('enew | file other.lua'); vim.fn.setline(1, { '1 a', '2 b', '3 c' }); vim.cmd('normal! yG'); vim.cmd('buffer #')")
  child:lua("require('sla.pieces').flush()")
  child:type("i")
  child:wait_ghost("x")
  local request = sent("generate")[1]
  expect({ "f(" }, { request.prompt, request.suffix, request.truncate, request.context })
  expect({}, child:notifications())
end

function tests.a_refused_field_is_left_out_quietly()
  local sent = start({ refuses = { "context", "suffix_tokens" }, answers = { { ends = "f(", text = "x" } } })
  child:set_lines({ "f()" }, 1, 2)
  child:type("i")
  child:wait_ghost("x")
  expect({ false, true }, { sent("generate")[2].suffix_tokens ~= nil, sent("generate")[2].suffix ~= nil })
  expect({}, child:notifications())
end

function tests.a_prompt_too_long_for_an_older_engine_is_halved()
  local sent = start({
    ready = { name = "old" },
    answers = { { has = "line 9", error = { code = "context_overflow", message = "too long" } }, { ends = "x", text = "y" } },
  })
  local lines = {}
  for i = 1, 40 do lines[i] = "line " .. i end
  child:set_lines(lines)
  child:type("Gox")
  child:wait_ghost("y")
  assert(#sent("generate") <= 4)
  expect({}, child:notifications())
end

function tests.the_first_line_that_is_sent_moves_in_steps()
  local sent = start(answering("ok"), { lines = 20 })
  local lines = {}
  for i = 1, 200 do lines[i] = "line " .. i end
  child:set_lines(lines)
  child:type("Go")
  child:wait_ghost("ok")
  for i = 1, 9 do
    child:type("x<CR>")
    wait("another request", function() return #sent("generate") > i end)
    child:wait_ghost("ok")
  end
  local firsts = {}
  for _, request in ipairs(sent("generate")) do firsts[request.prompt:match("^[^\n]*")] = true end
  assert(#vim.tbl_keys(firsts) <= 2, vim.inspect(firsts))
end

function tests.pieces_of_other_files_are_sent()
  local sent = start(answering("ok"))
  child:lua([[
    vim.cmd("edit one.lua")
    vim.fn.setline(1, { "local one = 1", "local two = 2", "return one + two" })
    vim.cmd("edit two.lua") -- looked at when it is left
    vim.fn.setline(1, { "alpha", "beta", "gamma" })
    vim.cmd("normal! ggyG")
    vim.cmd("edit three.lua")
    require("sla.pieces").flush()
  ]])
  child:type("ia")
  child:wait_ghost("ok")
  local request = sent("generate")[1]
  expect({ "one.lua", "two.lua" }, vim.tbl_map(function(piece) return piece.path end, request.context))
  expect("local one = 1\nlocal two = 2\nreturn one + two\n", request.context[1].text)
  expect("alpha\nbeta\ngamma\n", request.context[2].text)
  expect("three.lua", request.path)
  -- A file's own pieces are not sent: they are in the prompt.
  child:type("<Esc>:buffer one.lua<CR>Go")
  child:wait_ghost("ok")
  local all = sent("generate")
  expect({ "two.lua" }, vim.tbl_map(function(piece) return piece.path end, all[#all].context))
end

function tests.pieces_much_alike_take_one_place()
  child:lua([[
    local pieces = require("sla.pieces")
    vim.cmd("file one.lua")
    local words = {}
    for i = 1, 60 do words[i] = "word" .. i end
    pieces.add(0, words)
    words[60] = "other"
    pieces.add(0, words)
    pieces.add(0, { "something", "quite", "different" })
    pieces.flush()
    vim.cmd("edit two.lua")
    count = #pieces.list(0)
    for i = 1, 100 do pieces.add(0, { "a" .. i, "b" .. i, "c" .. i }) end
    pieces.flush()
    vim.cmd("edit three.lua")
    many = #pieces.list(0)
  ]])
  expect({ 2, 12 }, { child:lua("return count"), child:lua("return many") })
end

function tests.pieces_are_computed_before_they_are_needed()
  local sent = start(answering("ok"))
  child:lua([[
    vim.cmd("edit one.lua")
    vim.fn.setline(1, { "local one = 1", "local two = 2", "return one + two" })
  ]])
  child:type("Goa")
  child:wait_ghost("ok")
  child:type("<Esc>:edit two.lua<CR>")
  wait("the request", function()
    local all = sent("generate")
    return all[#all].max_tokens == 0 and #all[#all].context == 1
  end)
  expect({}, child:notifications())
end

function tests.bytes_that_are_no_utf8_are_replaced()
  local sent = start(answering("ok"))
  child:lua("vim.fn.setline(1, 'ü→😀 \\xff \\xc3 \\xed\\xa0\\x80 \\xc0\\xaf x')")
  child:type("A")
  child:wait_ghost("ok")
  expect("ü→😀 � � ��� �� x", sent("generate")[1].prompt)
end

function tests.very_long_lines_are_cut()
  local sent = start(answering("ok"))
  child:lua("vim.fn.setline(1, string.rep('x', 3000000)); vim.fn.append(1, string.rep('y', 3000000))")
  child:type("A<C-Space>")
  child:wait_ghost("ok")
  local request = sent("generate")[1]
  assert(#request.prompt <= 600000 and #request.suffix <= 300000)
end

function tests.fields_of_the_request_can_be_set()
  local sent = start(answering("ok"), { request = { stop = "\n\n", width = 3 }, max_tokens = 7 })
  child:type("ia")
  child:wait_ghost("ok")
  expect({ "\n\n", 3, 7 }, { sent()[1].stop, sent()[1].width, sent()[1].max_tokens })
end

-- The engine's life

function tests.a_dead_engine_is_started_again()
  start({ answers = { { ends = "x", tokens = { "a", "b" }, die = 1 }, { ends = "y", text = "ok" } } })
  child:type("ix")
  wait("the message", function() return #child:notifications() > 0 end)
  child:type("y")
  child:wait_ghost("ok")
  expect(1, #child:notifications())
  assert(child:notifications()[1]:find("ended with 3"), child:notifications()[1])
end

function tests.an_engine_that_dies_and_dies_is_left_alone()
  local sent = start({ answers = { { ends = "", tokens = { "a" }, die = 0 } } })
  for i = 1, 5 do
    child:type(i == 1 and "ix" or "x")
    wait("the message", function() return #child:notifications() >= math.min(i, 3) end)
    vim.wait(50)
  end
  expect({ 3, 3 }, { #sent("generate"), #child:notifications() })
end

function tests.one_engine_for_all_windows()
  start(answering("ok"))
  child:type("ia")
  child:wait_ghost("ok")
  local pid = child:lua("return require('sla.engine').pid()")
  child:type("<Esc>:vnew<CR>ib")
  child:wait_ghost("ok")
  expect(pid, child:lua("return require('sla.engine').pid()"))
end

function tests.restarts_when_told()
  start(answering("ok"))
  child:type("ia")
  child:wait_ghost("ok")
  local pid = child:lua("return require('sla.engine').pid()")
  child:type("<Esc>:SlaRestart<CR>")
  wait("the message", function() return child:notifications()[1] == "sla: the engine is ready" end)
  assert(pid ~= child:lua("return require('sla.engine').pid()"))
end

function tests.the_engine_ends_with_the_editor()
  start(answering("ok"))
  child:type("ia")
  child:wait_ghost("ok")
  local pid = child:lua("return require('sla.engine').pid()")
  vim.rpcnotify(child.channel, "nvim_input", "<Esc>:qa!<CR>")
  wait("its end", function() return vim.loop.kill(pid, 0) ~= 0 end)
  child = harness.start()
end

function tests.text_typed_while_the_model_loads_gets_its_suggestion()
  local sent = start({ load_ms = 300, answers = { { ends = "abc", text = "d" } } })
  for _, keys in ipairs({ "ia", "b", "c" }) do
    child:type(keys)
    vim.wait(50)
  end
  child:wait_ghost("d")
  expect(1, #sent())
end

function tests.a_missing_program_is_told_once()
  setup({ command = "no-such-engine" })
  child:type("iabc")
  wait("the message", function() return #child:notifications() > 0 end)
  child:type("d")
  vim.wait(100)
  expect(1, #child:notifications())
  child:type("<C-Space>")
  wait("the second message", function() return #child:notifications() == 2 end)
end

function tests.errors_are_told_once()
  start({ answers = { { ends = "", error = { code = "invalid_request", field = "widht", message = "there is no field widht here" } } } })
  child:type("ia")
  wait("the message", function() return #child:notifications() == 1 end)
  child:type("b")
  vim.wait(100)
  expect({ "sla: there is no field widht here" }, child:notifications())
end

-- Options, status, documentation

function tests.wrong_options_are_named()
  child:lua([[require("sla").setup({ modle = "x", lines = -1, auto = 1, accept = 3 })]])
  local message = child:notifications()[1]
  for _, part in ipairs({ "no option modle", "lines must be", "auto must be", "accept must be a string or false" }) do
    assert(message:find(part, 1, true), message)
  end
  expect(256, child:lua("return require('sla.config').options.lines"))
end

function tests.works_without_setup()
  child:lua("vim.g.sla = { command = { 'true' }, lines = 7 }")
  wait("the setup", function() return child:lua("return require('sla').is_set_up") end)
  child:stop()
  child = harness.start()
  wait("the setup", function() return child:lua("return require('sla').is_set_up") end)
  expect(256, child:lua("return require('sla.config').options.lines"))
end

function tests.setup_can_be_called_again()
  start(answering("one"))
  start(answering("two"), { trigger = "<C-T>" })
  child:type("ia")
  child:wait_ghost("two")
  expect("", child:lua("return vim.fn.maparg('<C-Space>', 'i')"))
  expect("<Plug>(sla-complete)", child:lua("return vim.fn.maparg('<C-T>', 'i')"))
end

function tests.info_and_status_tell_what_it_cost()
  start({ answers = { { ends = "a", text = "b c" } } }, { info = true })
  child:type("ia")
  wait("the info", function() return child:screen(1)[1]:find("ab c 2 tokens · reward 0.50 · 12 ms", 1, true) end)
  expect("sla 2 tokens · reward 0.50 · 12 ms", child:lua("return require('sla').status()"))
end

function tests.colours_by_reward()
  start({ answers = { { ends = "a", tokens = { "x", "y", "z" }, rewards = { -1, 0, 1 } } } })
  child:type("ia")
  child:wait_ghost("xyz")
  child:type("<Cmd>SlaRewards<CR>")
  wait("the colours", function()
    return child:ghost("SlaReward1") .. child:ghost("SlaReward3") .. child:ghost("SlaReward5") == "xyz"
  end)
  child:type("<Cmd>SlaRewards<CR>")
  wait("none", function() return child:ghost("SlaCommitted") == "xyz" end)
end

function tests.the_log_shows_what_was_said()
  start(answering("ok"))
  child:type("ia")
  child:wait_ghost("ok")
  child:type("<Esc>:SlaLog<CR>")
  wait("the log", function() return table.concat(child:lines(), "\n"):find('< {"type":"ready"', 1, true) end)
end

function tests.checkhealth_says_what_is_wrong()
  child:lua([[require("sla").setup({ command = "no-such-engine", widht = 3, model = "builtin:python", reward = "none.gguf" })]])
  child:lua("vim.cmd('checkhealth sla')")
  local text = table.concat(child:lines(), "\n")
  assert(text:find("no program no-such-engine", 1, true), text)
  assert(text:find("no option widht", 1, true), text)
  assert(text:find("the option reward names none.gguf, which cannot be read", 1, true), text)
  assert(not text:find("the option model", 1, true), "it is built in")
  start(answering("ok"))
  child:type(":enew<CR>ia")
  child:wait_ghost("ok")
  child:lua("vim.cmd('stopinsert | checkhealth sla')")
  text = table.concat(child:lines(), "\n")
  assert(text:find("fake is loaded", 1, true), text)
end

function tests.the_manual_names_every_option_command_and_test()
  local help = table.concat(vim.fn.readfile(harness.root .. "/doc/sla.txt"), "\n")
  local config = dofile(harness.root .. "/lua/sla/config.lua")
  for _, entry in ipairs(config.specification) do
    assert(help:find("*sla-" .. entry[1] .. "*", 1, true), "doc/sla.txt says nothing of the option " .. entry[1])
    if type(entry[2]) ~= "table" and entry[2] ~= nil then
      local default = type(entry[2]) == "string" and vim.inspect(entry[2]) or tostring(entry[2])
      local said = help:find("\n" .. entry[1] .. " %s*%(default " .. vim.pesc(default) .. "%)")
      assert(said, "doc/sla.txt says another default of " .. entry[1])
    end
  end
  for name in table.concat(vim.fn.readfile(harness.root .. "/plugin/sla.lua"), "\n"):gmatch('command%("(%w+)"') do
    assert(help:find("*:" .. name .. "*", 1, true), "doc/sla.txt says nothing of :" .. name)
  end
  for name in help:gmatch("[^\n]*|(sla[%w-]+)|") do
    assert(help:find("*" .. name .. "*", 1, true), "doc/sla.txt points to " .. name)
  end
  -- The table against llama.vim names a test for every yes.
  for name in table.concat(vim.fn.readfile(harness.root .. "/README.md"), "\n"):gmatch("| yes: `([%w_]+)`") do
    assert(tests[name], "README.md names a test " .. name .. ", which is not here")
  end
  local copy = vim.fn.tempname()
  vim.fn.mkdir(copy, "p")
  vim.fn.writefile(vim.fn.readfile(harness.root .. "/doc/sla.txt"), copy .. "/sla.txt")
  child:lua("vim.cmd('helptags " .. copy .. "')") -- fails on a tag that is there twice
end

-- :SlaEdit

local old = { "for i = 1, 3 do", "  print(i)", "end" }

function tests.edits_are_shown_as_a_difference_and_accepted()
  local sent = start({ answers = { { has = "while", text = "local i = 1\nwhile i <= 3 do\n  print(i)\nend" } } })
  child:set_lines({ "-- before", old[1], old[2], old[3], "-- after" })
  child:type(":2,4SlaEdit use while<CR>")
  wait("the difference", function() return vim.tbl_contains(child:lines(), "-for i = 1, 3 do") end)
  expect({ "-for i = 1, 3 do", "+local i = 1", "+while i <= 3 do", "   print(i)", " end" }, child:lines())
  local request = sent("generate")[1]
  expect(table.concat(old, "\n"), request.prediction)
  assert(request.messages[1].content:find("SELECTION:\n" .. vim.pesc(table.concat(old, "\n"))))
  child:type("<CR>")
  child:wait_lines({ "-- before", "local i = 1", "while i <= 3 do", "  print(i)", "end", "-- after" })
  child:type("u")
  child:wait_lines({ "-- before", old[1], old[2], old[3], "-- after" })
end

function tests.edits_can_be_dropped()
  start({ answers = { { has = "while", text = "while" } } })
  child:set_lines(old)
  child:type("Vj:SlaEdit use while<CR>")
  wait("the difference", function() return vim.tbl_contains(child:lines(), "+while") end)
  child:type("q")
  child:wait_lines(old)
  expect(1, child:lua("return #vim.api.nvim_list_wins()"))
end

function tests.a_dropped_edit_is_cancelled()
  local sent = start({ answers = { { has = "while", tokens = { "a", "b" }, token_ms = 5000 } } })
  child:set_lines(old)
  child:type(":SlaEdit use while<CR>")
  wait("the answer", function() return child:lines()[1] == "a" end)
  child:type(":q<CR>")
  wait("the cancel", function() return sent("cancel")[1] end)
  child:wait_lines(old)
end

function tests.an_edit_of_changed_lines_is_refused()
  start({ answers = { { has = "while", text = "new" } } })
  child:set_lines(old)
  child:type(":1SlaEdit use while<CR>")
  wait("the difference", function() return vim.tbl_contains(child:lines(), "+new") end)
  child:lua("vim.api.nvim_buf_set_lines(vim.fn.bufnr(1), 0, 0, true, { 'above' })")
  child:lua("vim.api.nvim_buf_set_text(vim.fn.bufnr(1), 1, 0, 1, 0, { 'x' })")
  child:type("<CR>")
  wait("the message", function() return #child:notifications() == 1 end)
  child:type("q")
  child:wait_lines({ "above", "xfor i = 1, 3 do", old[2], old[3] })
end

function tests.edits_go_on_and_try_again()
  local sent = start({ answers = { { has = "shorter", text = "s" }, { has = "while", text = "```lua\nwhile\n```" } } })
  child:set_lines({ "old" })
  child:type(":SlaEdit use while<CR>")
  wait("the difference", function() return vim.deep_equal(child:lines(), { "-old", "+while" }) end)
  child:type("cshorter<CR>")
  wait("the difference", function() return vim.deep_equal(child:lines(), { "-old", "+s" }) end)
  expect({ "user", "assistant", "user" }, vim.tbl_map(function(message) return message.role end, sent("generate")[2].messages))
  child:type("r")
  wait("another request", function() return #sent("generate") == 3 end)
  expect({ "sample", 1 }, { sent("generate")[3].decoder, sent("generate")[3].seed })
end

function tests.edits_need_a_chat_template()
  start({ ready = { name = "base", fill = true, chat = false } })
  child:set_lines(old)
  child:type(":SlaEdit use while<CR>")
  wait("the message", function() return (child:notifications()[1] or ""):find("chat template") end)
end

-- Screenshots of a terminal

-- Runs the editor in tmux, and returns what types, what waits until the screen's first rows are these (and tells whether the
-- colours in the first differ from the text's), and what ends it.
local function terminal(script)
  if vim.fn.executable("tmux") == 0 then error("tmux is missing") end
  local command = fake(script)
  local init = vim.fn.tempname() .. ".lua"
  vim.fn.writefile({
    "vim.g.loaded_matchparen = 1",
    ("vim.opt.runtimepath:prepend(%q)"):format(harness.root),
    "vim.o.swapfile, vim.o.shadafile, vim.o.laststatus = false, 'NONE', 0",
    ("require('sla').setup(vim.json.decode(%q))"):format(vim.json.encode({ command = command, debounce_ms = 5, ahead = false })),
  }, init)
  local socket = "sla-test-" .. vim.fn.getpid()
  local function tmux(...)
    local output = vim.fn.system(vim.list_extend({ "tmux", "-L", socket, "-f", "/dev/null" }, { ... }))
    if vim.v.shell_error ~= 0 then error("tmux: " .. output) end
    return output
  end
  tmux("new-session", "-d", "-x", "40", "-y", "8", "env", "LC_ALL=C.UTF-8", "TERM=screen-256color", vim.v.progpath, "-n", "-u", init)
  local function rows(...) return vim.split(tmux("capture-pane", "-p", ...), "\n") end
  return {
    type = function(...) tmux("send-keys", ...) end,
    wait = function(expected)
      local got
      if not vim.wait(10000, function()
        got = vim.list_slice(rows(), 1, #expected)
        return vim.deep_equal(expected, got)
      end, 20) then
        error(("expected the screen %s\n     got %s"):format(vim.inspect(expected), vim.inspect(got)), 2)
      end
    end,
    coloured = function() return rows("-e")[1] end,
    stop = function() pcall(tmux, "kill-server") end,
  }
end

function tests.screenshots()
  local screen = terminal({
    answers = {
      { ends = "f(", text = "naïve, x" },
      { ends = "{", text = "\n\treturn 1\n}" },
      { ends = ":", text = "0123456789 0123456789 0123456789 0123456789" },
      { ends = "(1", text = "\n2\n3\n4\n5\n6\n7\n8\n9" },
    },
  })
  local ok, message = pcall(function()
    screen.type("i", "f()", "Left")
    screen.wait({ "f(naïve, x)", "~" })
    assert(screen.coloured():find("^f%(\27%[38;5;244mnaïve"), "the suggestion has no colour: " .. screen.coloured())
    screen.type("Tab")
    screen.type("End", " {")
    screen.wait({ "f(naïve, x) {", "        return 1", "}", "~" })
    screen.type("x")
    screen.wait({ "f(naïve, x) {x", "~" })
    screen.type("Escape", "S:")
    screen.wait({ ":0123456789 0123456789 0123456789 012345", "6789", "~" })
    screen.type("Escape", "S", "Enter", "Enter", "(1")
    screen.wait({ "", "", "(1", "2", "3", "4", "5⏎ +4" })
    screen.type("Tab")
    screen.wait({ "", "(1", "2", "3", "4", "5", "6⏎ +3" })
    screen.type("Escape", "u")
    screen.wait({ "", "(1", "~" })
  end)
  screen.stop()
  if not ok then error(message, 0) end
end

-- The real engine

local function real(options)
  if program == "" then error("there is no engine; set SLA") end
  setup(vim.tbl_extend("force", { command = program }, options or {}))
end

function tests.real_engine_completes_and_accepts()
  real()
  child:type("i3 5 7 2>24<CR>")
  wait("ghost text", function() return child:ghost():find("^%d+[-+*/]%d+=%d+;.*;.*=%d+$") end)
  vim.wait(100) -- for what may still come
  local answer = child:ghost()
  child:type("<Tab>")
  child:wait_lines({ "3 5 7 2>24", answer })
  child:type("!<Esc>u")
  child:wait_lines({ "3 5 7 2>24", "" })
  expect({}, child:notifications())
end

-- A search so wide that it is still running when the cursor moves.
local slow = { width = 4, depth = 3, chunk = 10, min_p = 0, ignore_eos = true }

function tests.real_engine_cancels()
  real({ max_tokens = 100, request = slow })
  child:type("i3 5 7 2>24<CR>")
  wait("a draft", function() return child:ghost("SlaDraft") ~= "" end)
  child:type("<Up>")
  child:wait_ghost("")
  wait("the end", function() return child:lua([[return table.concat(require("sla.engine").log(), "\n"):find('"cancelled"', 1, true)]]) end)
end

function tests.real_engine_has_branches()
  real()
  child:type("i3 5 7 2>24<CR>")
  wait("ghost text", function() return child:ghost():find("^%d+[-+*/]%d+=%d+;.*;.*=%d+$") end)
  vim.wait(100)
  local answer = child:ghost()
  child:type("<M-]>")
  wait("a branch", function() return child:ghost() ~= answer and child:ghost("SlaBranch") ~= "" end)
end

function tests.real_engine_with_a_long_prompt()
  real()
  local lines = {}
  for i = 1, 100 do lines[i] = "3 5 7 2>24" end
  child:set_lines(lines)
  child:type("Go")
  wait("ghost text", function() return child:ghost() ~= "" end)
  expect({}, child:notifications())
end

function tests.real_engine_names_a_wrong_field()
  real({ request = { widht = 3 } })
  child:type("i3 5 7 2>24<CR>")
  wait("the message", function() return #child:notifications() > 0 end)
  assert(child:notifications()[1]:find("widht"))
end

function tests.a_model_that_cannot_be_loaded_is_told()
  real({ model = "no-such-model.gguf" })
  child:type("i3 5 7 2>24<CR>")
  wait("the message", function() return #child:notifications() > 0 end)
  assert(child:notifications()[1]:find("no%-such%-model"))
end

local function run()
  local names, failures = vim.tbl_keys(tests), 0
  table.sort(names)
  for _, name in ipairs(names) do
    if name:find(vim.env.TEST or "", 1, true) then
      local began = vim.loop.hrtime()
      child = harness.start()
      local ok, message = pcall(tests[name])
      local errors = ok and child:lua("return vim.v.errmsg") or ""
      if errors ~= "" then ok, message = false, errors end
      child:stop()
      local words = ok and (" (%d ms)"):format((vim.loop.hrtime() - began) / 1e6) or ": " .. tostring(message)
      io.stdout:write(ok and "ok      " or "FAILED  ", name, words, "\n")
      io.stdout:flush()
      if not ok then failures = failures + 1 end
    end
  end
  return failures
end

local ok, failures = pcall(run)
if not ok then io.stdout:write(failures, "\n") end
vim.cmd(ok and failures == 0 and "quitall!" or "cquit")
