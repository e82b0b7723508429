vim9script noclear
# Ghost text from the sla engine, for Vim 9. :help sla

if exists('g:loaded_sla')
  finish
endif
g:loaded_sla = true

import autoload 'sla.vim'

command! SlaComplete sla.Complete()
command! SlaToggle sla.Toggle()
command! SlaRestart sla.Restart()
command! SlaInfo sla.Info()

augroup sla
  autocmd!
  autocmd VimEnter * sla.Setup()
  autocmd ColorScheme * sla.Colour()
  autocmd TextChangedI * sla.Changed(true)
  autocmd CursorMovedI * sla.Changed(false)
  autocmd TextChanged * sla.Sweep()
  autocmd TextChangedP,CompleteChanged * sla.Dismiss()
  autocmd InsertLeave,BufLeave,WinLeave * sla.Dismiss()
  autocmd BufWipeout * sla.Forget(expand('<abuf>')->str2nr())
augroup END

if v:vim_did_enter
  sla.Setup()
endif
