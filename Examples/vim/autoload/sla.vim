vim9script
# Ghost text from the sla engine. One process serves all buffers. It is started when it is first needed, and again when it
# has died. What is shown is virtual text of the cursor's line; its keys are mappings of the buffer while it is shown.

# Options

const defaults = {
  command: 'sla', # the engine's program; a list adds arguments
  model: '', # a GGUF file; '': the built-in model
  reward: '', # a reward channel for it
  delay: 200, # milliseconds without a key until a suggestion is asked for; -1: only on demand
  filetypes: {}, # such as { markdown: false }; '*' stands for the others
  max_tokens: 64,
  deadline_ms: 0, # 0: none
  prefix_size: 8000, # bytes before the cursor, and up to a quarter more
  suffix_size: 1000, # bytes behind it, for models that fill gaps
  suffix_tokens: 128, # of the model's context that these may take
  max_line_suffix: 8, # with more bytes behind the cursor in its line only the key asks
  context_buffers: 3, # other buffers of the filetype that a piece is sent of
  context_lines: 40, # lines of a piece
  request: {}, # other fields of the request
  keys: {
    complete: '<C-F>',
    accept: '<Tab>',
    line: '<S-Tab>',
    word: '<C-Right>',
    next: '<C-J>',
    previous: '<C-K>',
    dismiss: '<C-]>',
  },
}

var options = deepcopy(defaults)
var enabled = true

# The engine

var job: any = null
var model: dict<any> = {} # what it said of its model; empty until it is ready
var waiting: list<func> = [] # what to do then
var handlers: dict<func> = {} # by a request's id, what to do with its events
var last_id = 0
var errors: list<string> = [] # what it said on standard error
var deaths: list<number> = [] # when it ended, in seconds
var broken = '' # why it is not started again by itself
var last_done: dict<any> = {} # the event that ended the last answer

# The ghost text; empty: there is none. Places are in bytes.
#   buffer, window, lnum, col   where it is
#   tick                        b:changedtick at which it was right
#   before, after               the line around it
#   above, behind               lines above and behind, as far as what is known is compared with them
#   count                       lines of the buffer
#   start                       lnum and col where it was asked for
#   typed                       what of the answer is in the buffer
#   id                          of the request, 0 until it is sent
#   committed, draft            the answer so far, and what may follow
#   starts                      where each token begins in committed
#   others                      answers that were dropped
#   choice                      which is shown: 0 is the answer
#   answers                     what can be shown: how the answer and the others go on
#   running                     whether more may come
#   shown                       the text on the screen
var ghost: dict<any> = {}
var timer = 0
var known: list<dict<any>> = [] # ghosts whose answers are complete, the newest first
var mapped: dict<any> = {} # the buffer that has the keys, and what they were there

const most_known = 50
const most_compared = 500 # bytes around the cursor

def Complain(message: string)
  echohl WarningMsg
  for line in split(message, "\n")
    echomsg 'sla: ' .. line
  endfor
  echohl None
enddef

# The colours, unless they are the user's. Without :syntax on there is no Comment that text could look like.
export def Colour()
  highlight default SlaCommitted ctermfg=DarkGrey guifg=#808080
  highlight default SlaDraft cterm=italic ctermfg=DarkGrey gui=italic guifg=#808080
enddef

# Reads g:sla and names what is wrong in it; then it is as if it were not given.
export def Setup()
  ReadOptions()
  Colour()
  for type in ['SlaCommitted', 'SlaDraft']
    if empty(prop_type_get(type))
      prop_type_add(type, {highlight: type})
    endif
  endfor
  if options.keys.complete != '' && maparg(options.keys.complete, 'i') == ''
    execute 'inoremap <silent>' options.keys.complete '<Cmd>SlaComplete<CR>'
  endif
enddef

def ReadOptions(): bool
  options = deepcopy(defaults)
  final given: any = get(g:, 'sla', {})
  var wrong = type(given) == v:t_dict ? WrongOption(given, defaults, '') : 'g:sla is no dictionary'
  if wrong == ''
    for [name, value] in items(given)
      if name == 'keys'
        extend(options.keys, value)
      else
        options[name] = value
      endif
    endfor
    return true
  endif
  Complain(wrong)
  return false
enddef

def WrongOption(given: dict<any>, like: dict<any>, prefix: string): string
  for [name, value] in items(given)
    if !has_key(like, name)
      return printf('there is no option %s%s; :help sla-options', prefix, name)
    endif
    const is_list = prefix .. name == 'command' && type(value) == v:t_list && !empty(value)
    if type(value) != type(like[name]) && !is_list
      return printf('the option %s%s is %s; :help sla-options', prefix, name, string(value))
    endif
    if name == 'keys'
      const wrong = WrongOption(value, like.keys, 'keys.')
      if wrong != ''
        return wrong
      endif
    endif
  endfor
  return ''
enddef

def Start(): bool
  if job != null && job_status(job) == 'run'
    return true
  endif
  if !ReadOptions()
    return false
  endif
  final command: list<string> = type(options.command) == v:t_list ? copy(options.command) : [options.command]
  if !executable(command[0])
    Complain('there is no program ' .. command[0] .. '; set g:sla.command')
    return false
  endif
  for name in ['model', 'reward']
    if options[name] != ''
      extend(command, ['--' .. name, expand(options[name])])
    endif
  endfor
  errors = []
  model = {}
  job = job_start(command, {
    out_mode: 'nl', err_mode: 'nl', in_mode: 'raw', noblock: 1,
    out_cb: Read,
    err_cb: (_, line) => Heard(line),
    exit_cb: Ended,
  })
  return job_status(job) == 'run'
enddef

# Forgets the engine.
def Stop()
  final old = job
  job = null
  model = {}
  waiting = []
  handlers = {}
  Dismiss()
  if old != null && job_status(old) == 'run'
    job_stop(old, 'kill')
  endif
enddef

# What the engine says on standard error, of which the last lines tell why it ended.
def Heard(line: string)
  errors = add(errors, line)[-10 :]
enddef

def Ended(ended: job, status: number)
  if ended != job
    return
  endif
  # Vim may tell of the end before it has read the last lines.
  while index(['open', 'buffered'], ch_status(ended, {part: 'err'})) >= 0
    const line = ch_read(ended, {part: 'err', timeout: 50})
    if line == ''
      break
    endif
    Heard(line)
  endwhile
  const signal = get(job_info(ended), 'termsig', '')
  const how = signal == '' ? string(status) : signal
  const now = localtime()
  deaths = filter(deaths, (_, time) => time > now - 60) + [now]
  if empty(model) || len(deaths) > 3
    broken = 'the engine ended with ' .. how
  endif
  Stop()
  Complain(join(['the engine ended with ' .. how .. (broken == '' ? '' : '; :SlaRestart starts it again')] + errors, "\n"))
  redrawstatus
enddef

def Read(channel: channel, line: string)
  if job == null || ch_getjob(channel) != job || line == ''
    return
  endif
  var event: any = {}
  try
    event = json_decode(line)
  catch
  endtry
  if type(event) != v:t_dict || !has_key(event, 'type')
    Complain('the engine said what is no event: ' .. strcharpart(line, 0, 60))
    return
  endif
  const id = string(get(event, 'id', 0))
  if event.type == 'ready'
    model = event.model
    final functions = waiting
    waiting = []
    for Function in functions
      Function()
    endfor
  elseif has_key(handlers, id)
    const Handler = handlers[id]
    if event.type == 'done' || event.type == 'error'
      remove(handlers, id)
    endif
    Handler(event)
  elseif event.type == 'error' && event.id == null
    Complain(event.message)
  endif
enddef

def Send(request: dict<any>): number
  ++last_id
  request.id = last_id
  try
    ch_sendraw(job, json_encode(request) .. "\n")
  catch /E630:\|E631:\|E906:/ # one that has just ended tells Ended()
  endtry
  return last_id
enddef

export def Restart()
  Stop()
  broken = ''
  deaths = []
  Start()
enddef

# The ghost text's life

def InPlace(): bool
  return !empty(ghost)
    && bufnr() == ghost.buffer && win_getid() == ghost.window
    && line('.') == ghost.lnum && col('.') == ghost.col
    && b:changedtick == ghost.tick
    && mode(1) == 'i' && !pumvisible()
enddef

# Whether there is ghost text at the cursor.
export def Visible(): bool
  return InPlace() && ghost.shown != ''
enddef

# The ghost text at the cursor.
export def Shown(): string
  return InPlace() ? ghost.shown : ''
enddef

# Drops the ghost text and cancels its request.
export def Dismiss()
  if empty(ghost)
    return
  endif
  final old = ghost
  ghost = {}
  Unmap()
  Erase(old)
  const id = string(old.id)
  if has_key(handlers, id)
    remove(handlers, id)
    if job != null && job_status(job) == 'run'
      Send({type: 'cancel', target: old.id})
    endif
  endif
  redrawstatus
enddef

# Takes the virtual text off a line, or off all.
def Erase(old: dict<any>, lnum = 0)
  if bufloaded(old.buffer)
    const last = lnum > 0 ? lnum : getbufinfo(old.buffer)[0].linecount
    for type in ['SlaCommitted', 'SlaDraft']
      prop_remove({type: type, bufnr: old.buffer, all: true}, max([1, lnum]), last)
    endfor
  endif
enddef

def StartsWith(text: string, prefix: string): bool
  return strpart(text, 0, len(prefix)) == prefix
enddef

# How the answer and those that were dropped go on from what is typed. The answer is the first, and null when it does not.
def Answers(): list<any>
  const after = join([ghost.after] + ghost.behind, "\n")
  var rests: list<any> = []
  for answer in [ghost.committed .. ghost.draft] + ghost.others
    var text = WithoutRepetition(answer, after)
    # Lines behind the first would be shown elsewhere than they would come.
    if ghost.after !~ '^\s*$'
      text = matchstr(text, '^[^\n]*')
    endif
    const rest: any = StartsWith(text, ghost.typed) ? strpart(text, len(ghost.typed)) : null
    if empty(rests) || rest != null && rest != '' && index(rests, rest) < 0
      add(rests, rest)
    endif
  endfor
  return rests
enddef

def Chosen(): any
  ghost.answers = Answers()
  return ghost.answers[ghost.choice % len(ghost.answers)]
enddef

def Draw()
  const text: any = Chosen()
  if text == null # what was typed along is no longer what the engine says
    Dismiss()
    AskSoon()
    return
  elseif text == '' && !ghost.running
    Dismiss()
    return
  endif
  Erase(ghost, ghost.lnum)
  const rows = WhatFits(text)
  ghost.shown = join(rows, "\n")
  if ghost.shown == ''
    Unmap()
    return
  endif
  # What is decided ends here; a row that is not wholly decided is a draft.
  var decided = ghost.choice > 0 ? len(text) : max([0, len(ghost.committed) - len(ghost.typed)])
  var column = virtcol([ghost.lnum, ghost.col]) - 1
  for [i, row] in items(rows)
    const first = strpart(row, 0, decided)
    const rest = strpart(row, len(first))
    if i == 0
      for [type, part] in [['SlaCommitted', first], ['SlaDraft', rest]]
        if part != ''
          const cells = Cells(part, column)
          prop_add(ghost.lnum, ghost.col, {type: type, text: cells, bufnr: ghost.buffer})
          column += strdisplaywidth(cells)
        endif
      endfor
    else
      prop_add(ghost.lnum, 0, {
        type: rest == '' && decided >= 0 ? 'SlaCommitted' : 'SlaDraft',
        text: row == '' ? ' ' : Cells(row, 0), text_align: 'below', text_wrap: 'wrap', bufnr: ghost.buffer,
      })
    endif
    decided = max([0, decided - len(row) - 1])
  endfor
  Map()
  redrawstatus
enddef

# Virtual text knows no tabs, so they become the spaces that they stand for at a column of the screen.
def Cells(text: string, column: number): string
  const stop = &tabstop
  var cells = ''
  for char in split(text, '\zs')
    cells ..= char == "\t" ? repeat(' ', stop - (column + strdisplaywidth(cells)) % stop) : char
  endfor
  return cells
enddef

# The rows that the window has room for below the cursor. Nothing is taken that was not shown.
def WhatFits(text: string): list<string>
  const width = max([1, winwidth(0) - getwininfo(win_getid())[0].textoff])
  var room = winheight(0) - winline() + 1
  var column = (virtcol('.') - 1) % width
  var rows: list<string> = []
  for row in split(text, "\n", true)
    const cells = column + strdisplaywidth(row, column) + (empty(rows) ? strdisplaywidth(ghost.after) : 0)
    room -= 1 + max([0, cells - 1]) / width
    if room < 0 && !empty(rows)
      break
    endif
    add(rows, row)
    column = 0
  endfor
  return rows
enddef

# What repeats the text behind the cursor

# Whether the closing bracket or quote at a place of the text closes what the text opens.
def IsMatched(text: string, place: number): bool
  const closer = text[byteidx(text, 0) + charidx(text, place)]
  const before = strpart(text, 0, place)
  if stridx('"''`', closer) >= 0
    return count(before, closer) % 2 == 1
  endif
  var depth = 0
  for char in split(before, '\zs')
    if stridx('([{', char) >= 0
      ++depth
    elseif stridx(')]}', char) >= 0
      depth = max([0, depth - 1])
    endif
  endfor
  return depth > 0
enddef

# Whether so many bytes of the text repeat what follows the cursor, the line and on.
def Repeats(text: string, start: number, length: number, line: string): bool
  if stridx(')]}"''`', strpart(text, start, 1)) >= 0
    return !IsMatched(text, start)
  endif
  return length >= max([1, len(line)])
enddef

# The text without its end where it repeats what follows the cursor. An end counts when it begins with a bracket or quote
# that the text has not opened, or reaches the end of the cursor's line.
export def WithoutRepetition(text: string, after: string): string
  const line = matchstr(after, '^[^\n]*')
  const first = stridx(text, "\n")
  if first >= len(line) && line !~ '^\s*$'
    # Lines behind a repeated end of line would come before it.
    const start = first - len(line)
    if strpart(text, start, len(line)) == line && Repeats(text, start, len(line), line)
      return strpart(text, 0, start)
    endif
  endif
  for length in range(min([len(text), len(after)]), 1, -1)
    const start = len(text) - length
    if strpart(text, start) == strpart(after, 0, length) && Repeats(text, start, length, line)
      return strpart(text, 0, start)
    endif
  endfor
  return text
enddef

# Keys: without ghost text they are what they were, since only with it they are mapped, in its buffer

def Map()
  if !empty(mapped)
    return
  endif
  mapped = {buffer: bufnr(), old: []}
  for [name, key] in items(options.keys)
    if name != 'complete' && key != ''
      final old = maparg(key, 'i', false, true)
      add(mapped.old, {key: key, map: get(old, 'buffer', 0) == 1 ? old : {}})
      execute printf('inoremap <buffer> <silent> %s <Cmd>call sla#Press("%s")<CR>', key, name)
    endif
  endfor
enddef

def Unmap()
  if empty(mapped)
    return
  endif
  final old = mapped
  mapped = {}
  if !bufloaded(old.buffer)
    return
  endif
  if bufnr() != old.buffer
    # Only the current buffer's mappings can be changed, so this waits until it is that again.
    execute printf('autocmd sla BufEnter <buffer=%d> ++once call sla#Restore(%s)', old.buffer, string(old.old))
    return
  endif
  Restore(old.old)
enddef

export def Restore(old: list<any>)
  for entry in old
    if maparg(entry.key, 'i') =~ 'sla#Press'
      execute 'silent! iunmap <buffer>' entry.key
      if !empty(entry.map)
        mapset('i', false, entry.map)
      endif
    endif
  endfor
enddef

# What a key of the ghost text does; without ghost text at the cursor what it did before.
export def Press(name: string)
  Changed(false) # of what was typed ahead of the key
  if !Visible()
    Dismiss()
    feedkeys(eval('"\' .. options.keys[name] .. '"'), 'it')
  elseif name == 'accept'
    Take(ghost.shown)
    # Of what did not fit into the window the rest is shown next.
    if !empty(ghost) && ghost.shown == ''
      Dismiss()
    endif
  elseif name == 'line'
    Take(matchstr(ghost.shown, '^\n\=[^\n]*'))
  elseif name == 'word'
    Take(matchstr(ghost.shown, '^\%(\k\@!\_.\)*\k*'))
  elseif name == 'dismiss'
    Dismiss()
  elseif len(ghost.answers) > 1
    ghost.choice = (ghost.choice + (name == 'next' ? 1 : len(ghost.answers) - 1)) % len(ghost.answers)
    Draw()
  endif
enddef

# Puts the text, the beginning of the ghost text, before the cursor. One undo takes it back.
def Take(text: string)
  final lines = split(text, "\n", true)
  const [lnum, count] = [ghost.lnum, len(lines)]
  Erase(ghost, lnum)
  &g:undolevels = &g:undolevels
  const column = len(lines[-1]) + 1 + (count == 1 ? len(ghost.before) : 0)
  lines[0] = ghost.before .. lines[0]
  lines[-1] ..= ghost.after
  setline(lnum, lines[0])
  append(lnum, lines[1 :])
  cursor(lnum + count - 1, column)
  &g:undolevels = &g:undolevels
  GoOn(text)
enddef

# The ghost text goes on behind what of it has come into the buffer.
def GoOn(text: string)
  if ghost.choice > 0 # what was dropped stays the one that is shown, whichever of the others go on from here
    insert(ghost.others, ghost.typed .. Chosen())
    ghost.choice = 1
  endif
  ghost.typed ..= text
  Erase(ghost, ghost.lnum)
  extend(ghost, Place())
  Draw()
enddef

# Changes and movements

def Place(): dict<any>
  const line = getline('.')
  const column = col('.')
  return {
    buffer: bufnr(), window: win_getid(), lnum: line('.'), col: column, tick: b:changedtick, count: line('$'),
    before: strpart(line, 0, column - 1), after: strpart(line, column - 1),
  }
enddef

# What was typed since the ghost text was right, if that is all that has changed and the cursor is behind it; else null.
def Typed(): any
  if bufnr() != ghost.buffer || win_getid() != ghost.window || mode(1) != 'i' || pumvisible()
    return null
  endif
  const added = line('.') - ghost.lnum
  if added < 0 || added > count(ghost.shown, "\n") || line('$') != ghost.count + added
    return null
  endif
  const place = Place()
  const text = join(getline(ghost.lnum, line('.') - 1) + [place.before], "\n")
  if place.after != ghost.after || !StartsWith(text, ghost.before)
    return null
  endif
  const typed = strpart(text, len(ghost.before))
  # A letter is not the beginning of one with an accent.
  return strcharpart(ghost.shown, 0, strcharlen(typed), true) == typed ? typed : null
enddef

# The cursor has moved, or the text has changed.
export def Changed(is_text: bool)
  if !empty(ghost) && !InPlace()
    const typed: any = Typed()
    if typed == null || typed == '' && !is_text
      Dismiss()
    else
      GoOn(typed)
    endif
  endif
  if is_text && empty(ghost)
    Erase({buffer: bufnr()}, line('.')) # as in Sweep()
  endif
  if is_text && IsAutomatic() && !Visible() && (empty(ghost) || !InPlace() || ghost.shown == '') && !ShowKnown()
    AskSoon()
  endif
enddef

# Undo brings virtual text back with the line that had it.
export def Sweep()
  if empty(ghost)
    Erase({buffer: bufnr()})
  endif
enddef

def IsAutomatic(): bool
  return enabled && options.delay >= 0 && &buftype == '' && &modifiable && mode(1) == 'i' && !pumvisible()
    && get(options.filetypes, &filetype, get(options.filetypes, '*', true))
enddef

def AskSoon()
  timer_stop(timer)
  if IsAutomatic()
    final place = Place()
    timer = timer_start(options.delay, (_) => AskByItself(place))
  endif
enddef

def AskByItself(place: dict<any>)
  if broken == '' && IsAutomatic() && Place() == place && !Visible()
      && len(place.after) <= options.max_line_suffix
      && search('\S', 'bnW', max([1, line('.') - 100])) > 0
    if !Ask()
      broken = 'the engine does not start'
    endif
  endif
enddef

def NewGhost(): dict<any>
  return extend(Place(), {
    above: Above(most_compared), behind: getline(line('.') + 1, line('.') + 20), start: [line('.'), col('.')],
    typed: '', id: 0, committed: '', draft: '', starts: [], others: [], choice: 0, answers: [], running: true, shown: '',
  })
enddef

def Ask(): bool
  Dismiss()
  final mine = NewGhost()
  ghost = mine
  if !Start()
    Dismiss()
    return false
  endif
  if empty(model)
    add(waiting, () => SendIfMine(mine))
  else
    SendIfMine(mine)
  endif
  return true
enddef

def SendIfMine(mine: dict<any>)
  if ghost isnot mine
    return
  elseif !InPlace()
    Dismiss()
    return
  endif
  mine.id = Send(SuggestionRequest())
  handlers[string(mine.id)] = (event) => {
    if ghost is mine
      Receive(event)
    endif
  }
enddef

def Receive(event: dict<any>)
  if event.type == 'token'
    add(ghost.starts, len(ghost.committed))
    ghost.committed ..= event.text
    # The draft began with this token, or it was another branch's.
    ghost.draft = StartsWith(ghost.draft, event.text) ? strpart(ghost.draft, len(event.text)) : ''
  elseif event.type == 'draft'
    ghost.draft = event.text
  elseif event.type == 'commit'
    ghost.draft = ''
    const before = strpart(ghost.committed, 0, get(ghost.starts, event.from, 0))
    for other in get(event, 'rejected', [])
      add(ghost.others, before .. other.text)
    endfor
  elseif event.type == 'done'
    ghost.draft = ''
    ghost.running = false
    last_done = event
    if event.finish_reason == 'stop' || event.finish_reason == 'length'
      known = slice(insert(known, copy(ghost)), 0, most_known)
    endif
  elseif event.type == 'error'
    Dismiss()
    if get(event, 'code', '') == 'invalid_request' # it would be told again and again
      broken = event.message
    endif
    Complain(event.message)
    return
  endif
  if InPlace()
    Draw()
  else
    Dismiss()
  endif
enddef

# Shows an answer that is known already. False if none goes on here.
def ShowKnown(): bool
  for entry in known
    const typed: any = TypedOf(entry)
    if typed != null
      Dismiss()
      ghost = extendnew(entry, extend(Place(), {typed: typed, id: 0, choice: 0, shown: '', others: copy(entry.others)}))
      Draw()
      # That nothing goes on here is known too.
      return Visible() || typed == ''
    endif
  endfor
  return false
enddef

# What of the known answer is before the cursor, if the text around is as it was; else null.
def TypedOf(entry: dict<any>): any
  const [lnum, column] = entry.start
  if bufnr() != entry.buffer || line('.') < lnum || line('.') == lnum && col('.') < column
    return null
  endif
  const typed = strpart(join(getline(lnum, line('.') - 1) + [strpart(getline('.'), 0, col('.') - 1)], "\n"), column - 1)
  if !StartsWith(entry.committed, typed) || typed == entry.committed && typed != ''
    return null
  endif
  const position = getcurpos()
  const above = AboveAt(lnum, column, most_compared)
  return above == entry.above && strpart(getline('.'), col('.') - 1) == entry.after
      && getline(line('.') + 1, line('.') + 20) == entry.behind ? typed : null
enddef

export def Forget(buffer: number)
  filter(known, (_, entry) => entry.buffer != buffer)
  if !empty(ghost) && ghost.buffer == buffer
    Dismiss()
  endif
enddef

# What is sent

# The text before the cursor, of so many bytes or up to a quarter more. Its start moves in strides, so that the engine
# finds what it has computed in its cache.
def Above(size: number): string
  return AboveAt(line('.'), col('.'), size)
enddef

def AboveAt(lnum: number, column: number, size: number): string
  const place = max([0, line2byte(lnum)]) + column - 2
  const stride = max([1, size / 4])
  const start = place > size ? (place - size) / stride * stride : 0
  const first = max([1, byte2line(start + 1)])
  const text = join(getline(first, lnum - 1) + [strpart(getline(lnum), 0, column - 1)], "\n")
  # In a long line the start is in the middle of it.
  const excess = len(text) - size - stride
  return excess > 0 ? strpart(text, (excess / stride + 1) * stride) : text
enddef

# What JSON cannot say becomes U+FFFD.
def Clean(text: string): string
  return substitute(text, '[\ud800-\udfff\U110000-\U7fffffff]', nr2char(0xfffd), 'g')
enddef

def SuggestionRequest(): dict<any>
  # Engines that do not say whether a model fills gaps refuse the fields that came with it.
  const is_new = has_key(model, 'fill')
  # A token has a byte or more: so much surely fits.
  const fitting = max([1, (get(model, 'context_length', 1024) - options.max_tokens - 2) * 4 / 5])
  final request = {
    type: 'generate',
    prompt: Clean(Above(is_new ? options.prefix_size : min([options.prefix_size, fitting]))),
    max_tokens: options.max_tokens,
    include: ['draft', 'branches'],
  }
  if is_new
    request.truncate = 'left'
    request.context = Pieces()
    if expand('%') != ''
      request.path = Clean(expand('%:t'))
    endif
    const suffix = strpart(join([ghost.after] + getline(line('.') + 1, line('.') + 100), "\n"), 0, options.suffix_size)
    if model.fill && suffix != ''
      request.suffix = Clean(suffix)
      request.suffix_tokens = options.suffix_tokens
    endif
  endif
  if ghost.after !~ '^\s*$'
    request.stop = "\n"
  endif
  if options.deadline_ms > 0
    request.deadline_ms = options.deadline_ms
  endif
  return extend(request, options.request)
enddef

# Lines around the cursor's last place in buffers of the same filetype, the last used one last.
def Pieces(): list<dict<string>>
  const here = bufnr()
  const others = getbufinfo({bufloaded: 1, buflisted: 1})
    ->filter((_, info) => info.bufnr != here && info.name != '' && getbufvar(info.bufnr, '&filetype') == &filetype
      && getbufvar(info.bufnr, '&buftype') == '')
    ->sort((a, b) => a.lastused - b.lastused)
  var pieces: list<dict<string>> = []
  for info in options.context_buffers > 0 ? others[-options.context_buffers :] : []
    const first = max([1, info.lnum - options.context_lines / 2])
    const text = getbufline(info.bufnr, first, first + options.context_lines - 1)->join("\n")
    if text != ''
      add(pieces, {path: fnamemodify(info.name, ':t'), text: Clean(text) .. "\n"})
    endif
  endfor
  return pieces
enddef

# Commands

# Asks how the text before the cursor goes on; from normal mode, the text up to the end of the line.
export def Complete()
  broken = ''
  if mode(1) == 'i'
    Ask()
  else
    startinsert!
    timer_start(0, (_) => {
      if mode(1) == 'i'
        Ask()
      endif
    })
  endif
enddef

export def Toggle()
  enabled = !enabled
  Dismiss()
  echo 'sla: suggestions come' enabled ? 'by themselves' : 'only on demand'
enddef

export def Info()
  const timing = get(last_done, 'timing', {})
  const usage = get(last_done, 'usage', {})
  const reward: any = get(last_done, 'reward', null)
  echo empty(model) ? 'sla: no engine runs' : printf('sla: %s (%s)', get(model, 'name', ''), get(model, 'arch', ''))
    .. (empty(usage) ? '' : printf(', %d tokens', usage.completion_tokens))
    .. (empty(timing) ? '' : printf(' in %.0f ms', timing.total_ms))
    .. (reward == null ? '' : printf(', reward %.2f', reward))
enddef

# For 'statusline': %{sla#Status()}
export def Status(): string
  if broken != ''
    return 'SLA!'
  elseif !enabled
    return ''
  elseif empty(ghost)
    return 'SLA'
  endif
  const count = len(ghost.answers)
  return 'SLA' .. (ghost.running ? '…' : '') .. (count > 1 ? printf('[%d/%d]', ghost.choice % count + 1, count) : '')
enddef
