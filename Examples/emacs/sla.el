;;; sla.el --- Ghost text from the sla engine  -*- lexical-binding: t; -*-

;; Author: The authors of sla
;; Version: 0.1.0
;; Package-Requires: ((emacs "28.1"))
;; Keywords: convenience, tools, languages
;; SPDX-License-Identifier: Apache-2.0

;;; Commentary:

;; `sla-mode' shows at point how the text may go on, as the engine computes it.  What the engine has decided on has the
;; face `sla-committed'; the draft that it may still change has `sla-draft'.  TAB takes what is shown and S-TAB a line of
;; it, M-f takes a word, M-n and M-p show what the search has dropped, C-g drops it all.  Without a suggestion these keys
;; are what they were.  `sla-edit' rewrites the region by an instruction and shows the change as a diff.
;;
;; All buffers share one process.  It is started when it is first needed, and again when it has died.

;;; Code:

(require 'cl-lib)
(require 'diff)
(require 'diff-mode)
(require 'subr-x)
(require 'wid-edit)

;;;; Options

(defgroup sla nil
  "Ghost text from the sla engine."
  :group 'convenience
  :prefix "sla-")

(defcustom sla-command "sla"
  "The engine's program, or a list of it and its arguments."
  :type '(choice string (repeat :tag "Program and arguments" string)))

(defcustom sla-model nil
  "A GGUF file, a Hugging Face directory, or a model that is built into the engine.
Of these \"builtin:python\" goes on with Python; nil is the one that plays a game."
  :type '(choice (const :tag "The game" nil) (const :tag "Python" "builtin:python") file))

(defcustom sla-reward nil
  "A reward channel for the model; nil is the one in its file, or none."
  :type '(choice (const :tag "The model's" nil) file))

(defcustom sla-delay 0.2
  "Seconds without a key after a change until a suggestion is asked for.
With nil only `sla-complete' asks."
  :type '(choice (const :tag "Only on demand" nil) number))

(defcustom sla-modes '(prog-mode text-mode)
  "Major modes, and those derived from them, that `global-sla-mode' is for."
  :type '(repeat symbol))

(defcustom sla-max-tokens 64
  "Tokens of a suggestion."
  :type 'natnum)

(defcustom sla-deadline-ms nil
  "Milliseconds after which a suggestion ends as it is; nil: when it is done."
  :type '(choice (const :tag "None" nil) natnum))

(defcustom sla-prefix-size 8000
  "Characters before point that are sent, and up to a quarter more."
  :type 'natnum)

(defcustom sla-suffix-size 1000
  "Characters behind point that are sent to a model that fills gaps."
  :type 'natnum)

(defcustom sla-suffix-tokens 128
  "Tokens that the text behind point may take of the model's context."
  :type 'natnum)

(defcustom sla-max-line-suffix 8
  "With more characters behind point in its line, only `sla-complete' asks."
  :type 'natnum)

(defcustom sla-context-buffers 3
  "Other buffers of the same mode that a piece around point is sent of."
  :type 'natnum)

(defcustom sla-context-lines 40
  "Lines of such a piece."
  :type 'natnum)

(defcustom sla-request nil
  "Other fields of a suggestion's request, such as (:stop \"\\n\\n\")."
  :type '(plist :key-type symbol :value-type sexp))

(defcustom sla-show-rewards nil
  "Whether suggestions are coloured by reward, from red to green."
  :type 'boolean)

(defcustom sla-edit-max-tokens 1024
  "Tokens of the text that `sla-edit' asks for."
  :type 'natnum)

(defcustom sla-inhibit-functions '(sla--busy-p)
  "Functions that are non-nil while no suggestion may be shown."
  :type '(repeat function))

(defface sla-committed '((t :inherit shadow))
  "Suggested text that is decided on.")

(defface sla-draft '((t :inherit shadow :slant italic))
  "Suggested text that may still change.")

(defun sla--check-options ()
  "Signal an error that names the first option that is wrong."
  (pcase-dolist (`(,name ,kind) (get 'sla 'custom-group))
    (when (eq kind 'custom-variable)
      (unless (widget-apply (widget-convert (get name 'custom-type)) :match (symbol-value name))
        (user-error "`%s' is %S; C-h v %s tells what is possible" name (symbol-value name) name))))
  ;; What no package has defined was meant for this one.
  (let ((unknown (apropos-internal
                  "\\`sla-[^-]" (lambda (name) (and (boundp name) (not (special-variable-p name)))))))
    (when unknown
      (user-error "There is no option `%s'; M-x customize-group RET sla lists them" (car unknown)))))

;;;; The engine

(defvar sla--process nil "The engine's process, or nil.")
(defvar sla--model nil "What the engine said of its model when it was ready, or nil.")
(defvar sla--handlers (make-hash-table) "By a request's id: a function of each of its events.")
(defvar sla--last-id 0 "The id of the last request.")
(defvar sla--errors "" "The end of what the engine said on standard error.")
(defvar sla--deaths nil "When the engine died.")
(defvar sla--broken nil "Why the engine is not started again by itself, or nil.")
(defvar sla--info nil "What is known of the last answer: the event that ended it.")
(defvar sla--waiting nil "Functions to call once the engine is ready.")

(defun sla--complain (format &rest arguments)
  "Say FORMAT with ARGUMENTS in the echo area."
  (message "sla: %s" (apply #'format format arguments)))

(defun sla--model-name ()
  "What `sla-model' names, as the engine takes it."
  (if (string-prefix-p "builtin:" sla-model) sla-model (expand-file-name sla-model)))

(defun sla--start ()
  "Start the engine unless there is one."
  (unless (process-live-p sla--process)
    (sla--check-options)
    (let* ((words (if (stringp sla-command) (list sla-command) sla-command))
           (program (or (and words (executable-find (car words)))
                        (user-error "There is no program %s; set `sla-command'" (car words))))
           (default-directory (file-name-as-directory (expand-file-name "~")))
           (errors (make-pipe-process
                    :name "sla errors" :noquery t :coding 'utf-8-unix :sentinel #'ignore
                    :filter (lambda (_ text)
                              (setq sla--errors (concat sla--errors text)
                                    sla--errors (substring sla--errors (max 0 (- (length sla--errors) 1000))))))))
      (setq sla--errors "" sla--model nil
            sla--process (make-process
                          :name "sla" :connection-type 'pipe :coding 'utf-8-unix :noquery t
                          :command (append (list program) (cdr words)
                                           (and sla-model (list "--model" (sla--model-name)))
                                           (and sla-reward (list "--reward" (expand-file-name sla-reward))))
                          :stderr errors :filter #'sla--filter :sentinel #'sla--sentinel))))
  (force-mode-line-update t))

(defun sla--stop (why)
  "Forget the engine and tell those who wait for it WHY."
  (let ((handlers (hash-table-values sla--handlers))
        (process sla--process))
    (setq sla--process nil sla--model nil sla--waiting nil)
    (clrhash sla--handlers)
    (when (process-live-p process) (delete-process process))
    (sla--dismiss)
    (dolist (handler handlers) (funcall handler (list :type "lost" :message why)))
    (force-mode-line-update t)))

(defun sla--sentinel (process _)
  "Notice that PROCESS has ended."
  (when (and (eq process sla--process) (not (process-live-p process)))
    (let* ((status (process-exit-status process))
           ;; Emacs saw its output end before it saw it end.
           (how (if (= status 256) "the engine ended" (format "the engine ended with %s" status)))
           (now (float-time)))
      (setq sla--deaths (cons now (cl-remove-if (lambda (time) (< time (- now 60))) sla--deaths)))
      (when (or (not sla--model) (length> sla--deaths 3))
        (setq sla--broken how))
      (sla--stop "the engine ended")
      ;; What it said last may still be on its way.
      (run-with-timer 0.1 nil (lambda ()
                                (sla--complain "%s%s%s" how
                                               (if sla--broken "; M-x sla-restart starts it again" "")
                                               (if (string-blank-p sla--errors) "" (concat "\n" (string-trim sla--errors)))))))))

(defun sla--filter (process output)
  "Handle the lines that OUTPUT of PROCESS completes."
  (let* ((lines (split-string (concat (process-get process 'partial) output) "\n"))
         (rest (last lines)))
    (process-put process 'partial (car rest))
    (dolist (line (butlast lines))
      (when (and (eq process sla--process) (not (string-empty-p line)))
        (let ((event (condition-case nil
                         (json-parse-string (sla--without-nul line) :object-type 'plist :array-type 'list :null-object nil :false-object nil)
                       (error nil))))
          (if (plist-get event :type)
              (sla--handle event)
            (sla--complain "the engine said what is no event: %s" (truncate-string-to-width line 60))))))))

(defun sla--without-nul (line)
  "LINE of JSON with U+FFFD for NUL, which Emacs' parser refuses."
  (if (string-search "\\u0000" line)
      ;; Backslashes go in pairs with what is behind them.
      (replace-regexp-in-string "\\\\\\(?:u0000\\|.\\)" (lambda (escape) (if (equal escape "\\u0000") "\\ufffd" escape))
                                line t t)
    line))

(defun sla--handle (event)
  "Give EVENT to the one who asked for it."
  (let* ((id (plist-get event :id))
         (type (plist-get event :type))
         (handler (gethash id sla--handlers)))
    (when (member type '("done" "error")) (remhash id sla--handlers))
    (cond
     ((equal type "ready")
      (setq sla--model (plist-get event :model))
      (let ((functions sla--waiting))
        (setq sla--waiting nil)
        (mapc #'funcall functions))
      (force-mode-line-update t))
     (handler (funcall handler event))
     ((and (equal type "error") (null id)) (sla--complain "%s" (plist-get event :message))))))

(defun sla--knows (field)
  "Whether the engine said FIELD of its model, such as `:fill', true or not.
Engines before these fields refuse what came with them."
  (plist-member sla--model field))

(defun sla--send (request &optional handler)
  "Send REQUEST, a plist, whose events HANDLER gets.  Return its id."
  (let ((id (cl-incf sla--last-id)))
    (let ((line (concat (json-serialize (append (list :id id) request)) "\n")))
      (when handler (puthash id handler sla--handlers))
      ;; One that has just ended is noticed by the sentinel.
      (ignore-errors (process-send-string sla--process line)))
    id))

(defun sla--cancel (id)
  "Cancel the request ID unless it has ended."
  (when (and id (gethash id sla--handlers))
    (remhash id sla--handlers)
    (when (process-live-p sla--process) (sla--send (list :type "cancel" :target id)))))

(defun sla--when-ready (function)
  "Call FUNCTION once the engine is ready; start it if need be."
  (sla--start)
  (if sla--model (funcall function) (push function sla--waiting)))

;;;###autoload
(defun sla-restart ()
  "End the engine and start it anew, with the options as they are now."
  (interactive)
  (sla--stop "the engine was restarted")
  (setq sla--broken nil sla--deaths nil)
  (sla--start))

;;;; Ghost text

(cl-defstruct sla--ghost
  buffer window overlay
  position    ; of the overlay
  tick        ; of the buffer, at which it was right
  before      ; the end of the text before the place where it was asked for, as the cache has it
  after       ; the beginning of the text behind it
  typed       ; what of the answer is in the buffer already
  id          ; of the request, nil until it is sent
  committed   ; text of the answer, each token's with its `sla-reward'
  draft       ; what may follow
  starts      ; where each token begins in `committed', the last one first
  others      ; answers that were dropped
  choice      ; which is shown: 0 is the answer, 1 the first of the others
  running     ; whether more may come
  answers     ; what can be shown: how the answer and the others go on
  shown)      ; the text in the overlay

(defvar sla--ghost nil "The ghost text, or nil.")
(defvar sla--timer nil "The timer that will ask for ghost text, or nil.")
(defvar sla--known nil "Ghosts whose answers are complete, the newest first.")
(defconst sla--most-known 50 "How many of them are kept.")
(defvar-local sla--tick nil "The buffer's tick before the command.")
(defvar sla-mode)

(defun sla--busy-p ()
  "Whether no text is typed at point, or a menu of completions is open."
  (or (minibufferp) buffer-read-only executing-kbd-macro (use-region-p)
      (bound-and-true-p isearch-mode)
      completion-in-region-mode
      (bound-and-true-p company-candidates)
      (bound-and-true-p corfu--candidates)
      (bound-and-true-p multiple-cursors-mode)
      (and (bound-and-true-p evil-local-mode) (not (memq (bound-and-true-p evil-state) '(insert emacs))))))

(defun sla--inhibited-p ()
  "Whether no suggestion may be shown now."
  (run-hook-with-args-until-success 'sla-inhibit-functions))

(defun sla--in-place-p ()
  "Whether point and the buffer are as the ghost text wants them."
  (and sla--ghost
       (let ((buffer (sla--ghost-buffer sla--ghost)))
         (and (eq (selected-window) (sla--ghost-window sla--ghost))
              (eq (window-buffer) buffer)
              (with-current-buffer buffer
                (and (bound-and-true-p sla-mode)
                     (= (point) (sla--ghost-position sla--ghost))
                     (= (buffer-chars-modified-tick) (sla--ghost-tick sla--ghost))
                     (not (sla--inhibited-p))))))))

(defun sla-visible-p ()
  "Whether there is ghost text at point."
  (and (sla--in-place-p) (not (string-empty-p (sla--ghost-shown sla--ghost)))))

(defun sla--dismiss ()
  "Drop the ghost text and cancel its request."
  (when sla--ghost
    (let ((ghost sla--ghost))
      (setq sla--ghost nil)
      (remove-hook 'post-command-hook #'sla--guard)
      (delete-overlay (sla--ghost-overlay ghost))
      (sla--cancel (sla--ghost-id ghost))
      (force-mode-line-update))))

(defun sla--guard ()
  "Drop the ghost text unless it is in place."
  (unless (sla--in-place-p) (sla--dismiss)))

(defun sla--answers ()
  "How the answer and those that were dropped continue what is typed.
The answer is the first, and nil when it does not."
  (let* ((ghost sla--ghost)
         (typed (sla--ghost-typed ghost))
         (answers (cons (concat (sla--ghost-committed ghost) (propertize (sla--ghost-draft ghost) 'face 'sla-draft))
                        (sla--ghost-others ghost)))
         (after (sla--ghost-after ghost))
         (rests (mapcar (lambda (answer)
                          (let ((answer (sla--without-repetition answer after)))
                            (and (string-prefix-p typed answer) (substring answer (length typed)))))
                        answers)))
    (cons (car rests)
          (cl-remove-if (lambda (rest) (or (null rest) (string-empty-p rest) (equal rest (car rests))))
                        (delete-dups (cdr rests))))))

(defun sla--draw ()
  "Show the ghost text as it is now."
  (let* ((ghost sla--ghost)
         (text (sla--chosen)))
    (cond
     ;; What was typed along is no longer what the engine says.
     ((null text) (sla--dismiss) (sla--ask-soon))
     ((and (string-empty-p text) (not (sla--ghost-running ghost))) (sla--dismiss))
     (t
      (overlay-put (sla--ghost-overlay ghost) 'after-string nil) ; its rows would count
      (setq text (sla--what-fits text))
      (setf (sla--ghost-shown ghost) (substring-no-properties text))
      (let ((overlay (sla--ghost-overlay ghost))
            (position (sla--ghost-position ghost)))
        (move-overlay overlay position position (sla--ghost-buffer ghost))
        (when sla-show-rewards (setq text (sla--coloured text)))
        (unless (string-empty-p text)
          ;; The cursor stays before it; on the end of a line it could not.
          (setq text (if (string-prefix-p "\n" text) (concat " " text) (copy-sequence text)))
          (put-text-property 0 1 'cursor t text))
        (overlay-put overlay 'after-string text))))
    (force-mode-line-update t)))

(defun sla--chosen ()
  "The chosen answer, as far as it is known.
It is nil if it does not go on from what is typed."
  (let ((answers (sla--answers)))
    (setf (sla--ghost-answers sla--ghost) answers)
    (nth (mod (sla--ghost-choice sla--ghost) (length answers)) answers)))

(defun sla--what-fits (text)
  "The lines of TEXT that the window has room for from point on.
Nothing is taken that was not shown."
  (let* ((window (sla--ghost-window sla--ghost))
         (width (max 1 (window-body-width window)))
         (room (sla--room window))
         (column (with-current-buffer (window-buffer window) (current-column)))
         (fitting nil))
    (cl-loop for line in (split-string text "\n")
             do (cl-decf room (if truncate-lines 1 (1+ (/ (+ column (string-width line)) width))))
             while (or (>= room 0) (null fitting))
             do (push line fitting) (setq column 0))
    (string-join (nreverse fitting) "\n")))

(defun sla--room (window)
  "The rows of WINDOW from that of point on."
  (with-current-buffer (window-buffer window)
    (let* ((height (window-body-height window))
           (start (window-start window))
           ;; More than a screen away the window will be scrolled.
           (above (if (<= start (point) (+ start 100000))
                      (max 0 (1- (count-screen-lines start (min (point-max) (1+ (point))) nil window)))
                    0)))
      (if (< above height) (- height above) height))))

(defun sla--coloured (text)
  "TEXT with its tokens in colours by reward, from the least to the greatest."
  (let ((text (copy-sequence text)) (position 0) rewards)
    (while (< position (length text))
      (let ((reward (get-text-property position 'sla-reward text)))
        (when reward (push reward rewards))
        (setq position (next-single-property-change position 'sla-reward text (length text)))))
    (when rewards
      (let* ((least (apply #'min rewards))
             (span (max 1e-6 (- (apply #'max rewards) least))))
        (setq position 0)
        (while (< position (length text))
          (let ((reward (get-text-property position 'sla-reward text))
                (end (next-single-property-change position 'sla-reward text (length text))))
            (when reward
              (let ((share (/ (- reward least) span)))
                (put-text-property position end 'face
                                   (list :foreground (format "#%02x%02x40" (round (- 220 (* 160 share))) (round (+ 60 (* 130 share)))))
                                   text)))
            (setq position end)))))
    text))

;;;; What repeats the text behind the cursor

(defun sla--matched-p (text position)
  "Whether the closing bracket or quote at POSITION of TEXT closes what TEXT opens."
  (let ((closer (aref text position)) (depth 0))
    (if (memq closer '(?\" ?\' ?`))
        (cl-oddp (cl-count closer text :end position))
      (dotimes (i position)
        (pcase (aref text i)
          ((or ?\( ?\[ ?\{) (cl-incf depth))
          ((or ?\) ?\] ?\}) (setq depth (max 0 (1- depth))))))
      (> depth 0))))

(defun sla--without-repetition (text after)
  "TEXT without its end where it repeats AFTER, what follows the cursor.
An end counts when it begins with a bracket or quote that TEXT has not
opened, or reaches the end of the line of AFTER."
  (let* ((line (car (split-string after "\n")))
         (first (string-match "\n" text))
         (cut nil))
    (if (string-empty-p text) text
      (when (and first (not (string-blank-p line)) (string-suffix-p line (substring text 0 first))
                 (sla--repeats-p text (- first (length line)) (length line) line))
        ;; Lines behind a repeated end of line would come before it.
        (setq cut (- first (length line))))
      (cl-loop for length from (min (length text) (length after)) downto 1
               until cut
               do (let ((start (- (length text) length)))
                    (when (and (eq (aref text start) (aref after 0))
                               (string-prefix-p (substring-no-properties text start) after)
                               (sla--repeats-p text start length line))
                      (setq cut start))))
      (if cut (substring text 0 cut) text))))

(defun sla--repeats-p (text start length line)
  "Whether LENGTH characters of TEXT at START are a repetition.
LINE is what follows the cursor in its line."
  (if (memq (aref text start) '(?\) ?\] ?\} ?\" ?\' ?`))
      (not (sla--matched-p text start))
    (>= length (max 1 (length line)))))

;;;; Changes and commands

(defun sla--after-change (beginning end length)
  "Keep the ghost text when it is typed, else drop it.
What is between BEGINNING and END is in the place of LENGTH characters."
  (when (and sla--ghost (eq (current-buffer) (sla--ghost-buffer sla--ghost)))
    (let ((text (buffer-substring-no-properties beginning end)) (match (match-data)))
      (if (not (and (zerop length) (= beginning (sla--ghost-position sla--ghost))
                    (eq (selected-window) (sla--ghost-window sla--ghost))
                    (string-prefix-p text (sla--ghost-shown sla--ghost))))
          (sla--dismiss)
        ;; What was dropped stays the one that is shown, whichever of the others go on from here.
        (unless (zerop (sla--ghost-choice sla--ghost))
          (push (concat (sla--ghost-typed sla--ghost) (sla--chosen)) (sla--ghost-others sla--ghost))
          (setf (sla--ghost-choice sla--ghost) 1))
        (setf (sla--ghost-typed sla--ghost) (concat (sla--ghost-typed sla--ghost) text)
              (sla--ghost-position sla--ghost) end
              (sla--ghost-tick sla--ghost) (buffer-chars-modified-tick))
        (sla--draw))
      (set-match-data match))))

(defun sla--pre-command ()
  "Remember what the buffer was."
  (setq sla--tick (buffer-chars-modified-tick)))

(defun sla--post-command ()
  "Ask for ghost text soon if the command has changed the buffer."
  (unless (or (null sla-delay) (eql sla--tick (buffer-chars-modified-tick))
              (memq this-command '(undo undo-only undo-redo)))
    (setq sla--tick (buffer-chars-modified-tick))
    (unless (or (sla-visible-p) (sla--inhibited-p) (sla--show-known)) (sla--ask-soon))))

(defun sla--ask-soon ()
  "Ask for ghost text at point unless a key comes before."
  (when sla--timer (cancel-timer sla--timer))
  (setq sla--timer
        (and sla-delay
             (with-current-buffer (window-buffer)
               (run-with-timer sla-delay nil #'sla--ask-by-itself
                               (current-buffer) (point) (buffer-chars-modified-tick))))))

(defun sla--ask-by-itself (buffer position tick)
  "Ask for ghost text in BUFFER if point is at POSITION and the tick is TICK."
  (when (and (eq (window-buffer) buffer) (not sla--broken))
    (with-current-buffer buffer
      (when (and sla-mode (= (point) position) (= (buffer-chars-modified-tick) tick)
                 (<= (- (line-end-position) (point)) sla-max-line-suffix)
                 (save-excursion (re-search-backward "[^[:space:]]" (max (point-min) (- (point) sla-prefix-size)) t))
                 (not (sla-visible-p)) (not (sla--inhibited-p)))
        (condition-case problem
            (sla--ask)
          (error (setq sla--broken (error-message-string problem))
                 (sla--complain "%s" sla--broken)))))))

(defun sla--new-ghost ()
  "A ghost at point that has no text yet."
  (make-sla--ghost
   :buffer (current-buffer) :window (selected-window) :overlay (make-overlay (point) (point))
   :position (point) :tick (buffer-chars-modified-tick)
   :before (buffer-substring-no-properties (max (point-min) (- (point) 500)) (point))
   :after (buffer-substring-no-properties (point) (min (point-max) (+ (point) 500)))
   :typed "" :committed "" :draft "" :choice 0 :running t :shown ""))

(defun sla--place (ghost)
  "Make GHOST the ghost text."
  (sla--dismiss)
  (setq sla--ghost ghost)
  (overlay-put (sla--ghost-overlay ghost) 'priority 1000)
  (overlay-put (sla--ghost-overlay ghost) 'sla t)
  (overlay-put (sla--ghost-overlay ghost) 'window (sla--ghost-window ghost))
  (add-hook 'post-command-hook #'sla--guard))

(defun sla--ask ()
  "Ask the engine for a suggestion at point."
  (let ((ghost (sla--new-ghost)))
    (sla--place ghost)
    (condition-case problem
        (sla--when-ready
         (lambda ()
           (when (eq ghost sla--ghost)
             (if (sla--in-place-p)
                 (setf (sla--ghost-id ghost)
                       (with-current-buffer (sla--ghost-buffer ghost)
                         (sla--send (sla--suggestion-request (sla--ghost-position ghost))
                                    (lambda (event) (when (eq ghost sla--ghost) (sla--receive event))))))
               (sla--dismiss)))))
      (error (sla--dismiss) (signal (car problem) (cdr problem))))
    (force-mode-line-update)))

(defun sla--receive (event)
  "Take EVENT of the ghost text's request."
  (let* ((ghost sla--ghost)
         (text (or (plist-get event :text) "")))
    (pcase (plist-get event :type)
      ("token"
       (push (length (sla--ghost-committed ghost)) (sla--ghost-starts ghost))
       (setf (sla--ghost-committed ghost)
             (concat (sla--ghost-committed ghost) (propertize text 'face 'sla-committed 'sla-reward (plist-get event :reward)))
             ;; The draft began with this token, or it was another branch's.
             (sla--ghost-draft ghost)
             (if (string-prefix-p text (sla--ghost-draft ghost)) (substring (sla--ghost-draft ghost) (length text)) "")))
      ("draft" (setf (sla--ghost-draft ghost) text))
      ("commit"
       (let* ((from (plist-get event :from))
              (starts (reverse (sla--ghost-starts ghost)))
              (before (substring (sla--ghost-committed ghost) 0 (or (nth from starts) 0))))
         (setf (sla--ghost-draft ghost) ""
               (sla--ghost-others ghost)
               (append (sla--ghost-others ghost)
                       (mapcar (lambda (other) (concat before (propertize (plist-get other :text) 'face 'sla-committed)))
                               (plist-get event :rejected))))))
      ("done"
       (setf (sla--ghost-draft ghost) "" (sla--ghost-running ghost) nil)
       (setq sla--info event)
       (when (member (plist-get event :finish_reason) '("stop" "length"))
         (push (copy-sla--ghost ghost) sla--known)
         (when (nthcdr sla--most-known sla--known) (setcdr (nthcdr (1- sla--most-known) sla--known) nil))))
      ("error"
       (sla--dismiss)
       ;; It would be told again and again.
       (when (equal (plist-get event :code) "invalid_request") (setq sla--broken (plist-get event :message)))
       (sla--complain "%s" (plist-get event :message))))
    (when (eq ghost sla--ghost)
      (if (sla--in-place-p) (sla--draw) (sla--dismiss)))))

(defun sla--show-known ()
  "Show at point an answer that is known already; nil if there is none."
  (let ((found (cl-find-if #'sla--fits-here-p sla--known)))
    (when found
      (let* ((new (sla--new-ghost))
             (start (- (sla--ghost-position found) (length (sla--ghost-typed found))))
             (ghost (copy-sla--ghost found)))
        (setf (sla--ghost-overlay ghost) (sla--ghost-overlay new)
              (sla--ghost-window ghost) (selected-window)
              (sla--ghost-position ghost) (point)
              (sla--ghost-tick ghost) (buffer-chars-modified-tick)
              (sla--ghost-typed ghost) (buffer-substring-no-properties start (point))
              (sla--ghost-id ghost) nil
              (sla--ghost-choice ghost) 0)
        (sla--place ghost)
        (sla--draw)
        ;; That nothing goes on here is known too.
        (or (sla-visible-p) (string-empty-p (sla--ghost-typed ghost)))))))

(defun sla--fits-here-p (known)
  "Whether point is where KNOWN was asked for, or further in its answer."
  (and (eq (sla--ghost-buffer known) (current-buffer))
       (let* ((start (- (sla--ghost-position known) (length (sla--ghost-typed known))))
              (typed (- (point) start))
              (text (sla--ghost-committed known))
              (before (sla--ghost-before known))
              (after (sla--ghost-after known)))
         (and (>= typed 0) (or (< typed (length text)) (= typed (length text) 0))
              (>= (- start (length before)) (point-min))
              (or (= (length before) 500) (= (- start (length before)) (point-min)))
              (equal (buffer-substring-no-properties (- start (length before)) start) before)
              (string-prefix-p (buffer-substring-no-properties start (point)) text)
              (equal (buffer-substring-no-properties (point) (min (point-max) (+ (point) 500))) after)))))

;;;; What is sent

(defun sla--clean (text)
  "TEXT with U+FFFD for what is no Unicode text."
  (replace-regexp-in-string (format "[%c-%c%c-%c%c-%c]" #xd800 #xdfff #x110000 #x3fff7f #x3fff80 #x3fffff) "\uFFFD" text t t))

(defun sla--before (position size)
  "The text before POSITION, of SIZE characters or up to a quarter more.
Its start moves in strides, so that the engine finds in its cache what
it has computed."
  (let* ((stride (max 1 (/ size 4)))
         (excess (- position (point-min) size))
         (start (if (> excess 0) (+ (point-min) (* stride (/ excess stride))) (point-min))))
    (sla--clean (buffer-substring-no-properties start position))))

(defun sla--suggestion-request (position)
  "The request for a suggestion at POSITION."
  (save-excursion
    (goto-char position)
    (let* ((is-new (sla--knows :fill))
           (context (plist-get sla--model :context_length))
           ;; A token has a byte or more: so much surely fits.
           (size (if is-new sla-prefix-size (min sla-prefix-size (max 1 (/ (* 4 (- (or context 1024) sla-max-tokens 2)) 5)))))
           (rest (buffer-substring-no-properties position (line-end-position)))
           (request (list :type "generate" :prompt (sla--before position size)
                          :max_tokens sla-max-tokens :include ["draft" "branches"])))
      (when is-new
        (setq request (append request (list :truncate "left" :context (sla--pieces))))
        (when buffer-file-name
          (setq request (plist-put request :path (sla--clean (file-name-nondirectory buffer-file-name)))))
        (when (and (plist-get sla--model :fill) (not (eobp)))
          (setq request
                (append request
                        (list :suffix (sla--clean (buffer-substring-no-properties
                                                   position (min (point-max) (+ position sla-suffix-size))))
                              :suffix_tokens sla-suffix-tokens)))))
      (unless (string-blank-p rest) (setq request (plist-put request :stop "\n")))
      (when sla-deadline-ms (setq request (plist-put request :deadline_ms sla-deadline-ms)))
      (cl-loop for (key value) on sla-request by #'cddr
               do (setq request (plist-put request key (if (and value (listp value)) (vconcat value) value))))
      request)))

(defun sla--pieces ()
  "Lines around point in buffers of the same mode, the last visited one last."
  (let ((mode major-mode) (here (current-buffer)) pieces)
    (cl-loop for buffer in (buffer-list)
             while (< (length pieces) sla-context-buffers)
             do (with-current-buffer buffer
                  (when (and (not (eq buffer here)) (eq major-mode mode) buffer-file-name
                             (not (file-remote-p buffer-file-name)))
                    (save-excursion
                      (let ((start (progn (forward-line (- (/ sla-context-lines 2))) (point)))
                            (end (progn (forward-line sla-context-lines) (point))))
                        (unless (= start end)
                          (push (list :path (file-name-nondirectory buffer-file-name)
                                      :text (sla--clean (buffer-substring-no-properties start end)))
                                pieces)))))))
    (vconcat pieces)))

;;;; Commands

(defun sla--check-writable ()
  "Signal an error unless suggestions can be shown here."
  (barf-if-buffer-read-only)
  (unless (bound-and-true-p sla-mode) (user-error "Turn on `sla-mode' first"))
  (unless (eq (window-buffer) (current-buffer)) (user-error "This buffer is not in the selected window")))

;;;###autoload
(defun sla-complete ()
  "Ask for a suggestion at point."
  (interactive)
  (unless (bound-and-true-p sla-mode) (sla-mode))
  (sla--check-writable)
  (setq sla--broken nil)
  (sla--ask))

(defun sla--take (text)
  "Insert TEXT, the beginning of the ghost text."
  (unless (and (sla-visible-p) (not (string-empty-p text))) (user-error "There is no suggestion here"))
  (undo-boundary) ; one undo takes it back
  (insert text))

(defun sla-accept ()
  "Insert what is shown."
  (interactive)
  (let ((ghost sla--ghost)
        (shown (if sla--ghost (sla--ghost-shown sla--ghost) "")))
    (sla--take shown)
    ;; Of what did not fit into the window the rest is shown next.
    (when (and (eq ghost sla--ghost) (string-empty-p (sla--ghost-shown ghost))) (sla--dismiss))))

(defun sla--accept-part (regexp)
  "Insert what REGEXP matches at the beginning of what is shown."
  (let ((shown (if sla--ghost (sla--ghost-shown sla--ghost) "")))
    (sla--take (if (string-match regexp shown) (match-string 0 shown) shown))))

(defun sla-accept-word ()
  "Insert the next word of what is shown, and what is before it."
  (interactive)
  (sla--accept-part "\\`\\W*\\w*"))

(defun sla-accept-line ()
  "Insert the rest of the line of what is shown, or the next line."
  (interactive)
  (sla--accept-part "\\`\n?[^\n]*"))

(defun sla--choose (step)
  "Show the answer that is STEP further in the list of dropped ones."
  (unless (sla-visible-p) (user-error "There is no suggestion here"))
  (let ((answers (sla--ghost-answers sla--ghost)))
    (unless (cdr answers) (user-error "The search has dropped nothing here"))
    (setf (sla--ghost-choice sla--ghost) (mod (+ (sla--ghost-choice sla--ghost) step) (length answers)))
    (sla--draw)))

(defun sla-next ()
  "Show the next answer that the search has dropped."
  (interactive)
  (sla--choose 1))

(defun sla-previous ()
  "Show the answer before."
  (interactive)
  (sla--choose -1))

(defun sla-dismiss ()
  "Drop the suggestion."
  (interactive)
  (sla--dismiss))

(defun sla-info ()
  "Tell the model, and what is known of the last answer."
  (interactive)
  (let ((usage (plist-get sla--info :usage)) (timing (plist-get sla--info :timing)) (reward (plist-get sla--info :reward)))
    (message "%s%s%s%s"
             (if sla--model (format "%s (%s)" (plist-get sla--model :name) (plist-get sla--model :arch)) "no engine runs")
             (if usage (format ", %s tokens" (plist-get usage :completion_tokens)) "")
             (if timing (format " in %.0f ms" (plist-get timing :total_ms)) "")
             (if reward (format ", reward %.2f" reward) ""))))

(defun sla--lighter ()
  "The mode's part of the mode line."
  (cond
   (sla--broken " SLA!")
   ((and sla--ghost (eq (sla--ghost-buffer sla--ghost) (current-buffer)))
    (let ((others (length (cdr (sla--ghost-answers sla--ghost)))))
      (concat " SLA" (if (sla--ghost-running sla--ghost) "…" "")
              (if (zerop others) "" (format "[%d/%d]" (1+ (mod (sla--ghost-choice sla--ghost) (1+ others))) (1+ others))))))
   (t " SLA")))

(defun sla--key (command)
  "A binding that is COMMAND while a suggestion is shown, else none."
  (list 'menu-item "" command :filter (lambda (command) (and (sla-visible-p) command))))

(defvar sla-suggestion-map
  (let ((map (make-sparse-keymap)))
    (define-key map (kbd "TAB") (sla--key #'sla-accept))
    (define-key map (kbd "<tab>") (sla--key #'sla-accept))
    (define-key map (kbd "<backtab>") (sla--key #'sla-accept-line))
    (define-key map (kbd "M-f") (sla--key #'sla-accept-word))
    (define-key map (kbd "M-n") (sla--key #'sla-next))
    (define-key map (kbd "M-p") (sla--key #'sla-previous))
    (define-key map (kbd "C-g") (sla--key #'sla-dismiss))
    map)
  "Keys while a suggestion is shown.")

(defvar sla-mode-map
  (let ((map (make-sparse-keymap)))
    (define-key map (kbd "C-c \\") #'sla-complete)
    map)
  "Keys of `sla-mode'.")

;; Before other minor modes' keys, such as those of snippets.
(defvar sla--emulation-alist (list (cons 'sla-mode sla-suggestion-map)) "For `emulation-mode-map-alists'.")

;;;###autoload
(define-minor-mode sla-mode
  "Show at point how the text may go on.
\\<sla-suggestion-map>While a suggestion is shown, \\[sla-accept] takes it, \\[sla-accept-line] a line and \\[sla-accept-word]
a word of it, \\[sla-next] and \\[sla-previous] show what the search has dropped, and \\[sla-dismiss] drops it.
Typing what it says keeps it; anything else drops it.  \\<sla-mode-map>\\[sla-complete] asks for one."
  :lighter (:eval (sla--lighter))
  :keymap sla-mode-map
  (cond
   (sla-mode
    (add-to-list 'emulation-mode-map-alists 'sla--emulation-alist)
    (add-hook 'after-change-functions #'sla--after-change nil t)
    (add-hook 'pre-command-hook #'sla--pre-command nil t)
    (add-hook 'post-command-hook #'sla--post-command nil t)
    (add-hook 'kill-buffer-hook #'sla--leave nil t)
    (add-hook 'change-major-mode-hook #'sla--leave nil t)
    ;; Menus of completions may open without a command.
    (add-hook 'completion-in-region-mode-hook #'sla--guard)
    (add-hook 'company-completion-started-hook #'sla--on-menu))
   (t
    (remove-hook 'after-change-functions #'sla--after-change t)
    (remove-hook 'pre-command-hook #'sla--pre-command t)
    (remove-hook 'post-command-hook #'sla--post-command t)
    (remove-hook 'kill-buffer-hook #'sla--leave t)
    (remove-hook 'change-major-mode-hook #'sla--leave t)
    (sla--leave))))

(defun sla--on-menu (&rest _)
  "Make room for a menu of completions."
  (sla--dismiss))

(defun sla--leave ()
  "Drop the ghost text of this buffer and what is known of it."
  (setq sla--known (cl-delete (current-buffer) sla--known :key #'sla--ghost-buffer))
  (when (and sla--ghost (eq (sla--ghost-buffer sla--ghost) (current-buffer))) (sla--dismiss)))

(defun sla--turn-on ()
  "Turn on `sla-mode' in the modes of `sla-modes'."
  (when (apply #'derived-mode-p sla-modes) (sla-mode)))

;;;###autoload
(define-globalized-minor-mode global-sla-mode sla-mode sla--turn-on)

;;;; Edits

(cl-defstruct sla--edit buffer beginning end old new)

(defvar-local sla--edit nil "The edit that a buffer shows.")

(defvar sla-edit-map
  (let ((map (make-sparse-keymap)))
    (define-key map (kbd "C-c C-c") #'sla-edit-accept)
    (define-key map (kbd "C-c C-k") #'sla-edit-drop)
    map)
  "Keys in the diff that `sla-edit' shows.")

(define-derived-mode sla-edit-mode diff-mode "SLA-Edit"
  "A change that the model proposes.
\\<sla-edit-map>\\[sla-edit-accept] takes it, \\[sla-edit-drop] drops it."
  (use-local-map (make-composed-keymap sla-edit-map (current-local-map)))
  (setq-local header-line-format
              (substitute-command-keys "\\<sla-edit-map>\\[sla-edit-accept] takes the change, \\[sla-edit-drop] drops it")))

;;;###autoload
(defun sla-edit (beginning end instruction)
  "Rewrite the text from BEGINNING to END by INSTRUCTION, and show the change.
Without an active region the current line is rewritten."
  (interactive
   (append (if (use-region-p) (list (region-beginning) (region-end)) (list (line-beginning-position) (line-end-position)))
           (list (read-string "Rewrite so that: "))))
  (barf-if-buffer-read-only)
  (setq sla--broken nil)
  (let ((edit (make-sla--edit :buffer (current-buffer) :beginning (copy-marker beginning) :end (copy-marker end t)
                              :old (buffer-substring-no-properties beginning end)))
        (messages (sla--edit-messages (buffer-substring-no-properties beginning end) instruction)))
    (sla--when-ready
     (lambda ()
       (if (and (sla--knows :chat) (not (plist-get sla--model :chat)))
           (sla--complain "the model has no chat template, so it cannot follow an instruction")
         (message "sla: rewriting…")
         (sla--send (append (list :type "generate" :messages messages :max_tokens sla-edit-max-tokens)
                            (and (sla--knows :chat) (list :prediction (sla--clean (sla--edit-old edit)))))
                    (lambda (event) (sla--receive-edit edit event))))))))

(defun sla--edit-messages (text instruction)
  "What a chat model is told to rewrite TEXT by INSTRUCTION."
  (vector (list :role "system"
                :content "You rewrite text. Answer with the whole new text and nothing else: no explanation, no code fence.")
          (list :role "user" :content (sla--clean (concat instruction "\n\n" text)))))

(defun sla--unfenced (answer old)
  "ANSWER without a code fence that OLD has not, and with the line end of OLD."
  (let ((text (if (and (not (string-prefix-p "```" old))
                       (string-match "\\`[ \t\n]*```[^\n]*\n\\(\\(?:.\\|\n\\)*?\\)\n?```[ \t\n]*\\'" answer))
                  (match-string 1 answer)
                answer)))
    (if (string-suffix-p "\n" old)
        (if (string-suffix-p "\n" text) text (concat text "\n"))
      (string-trim-right text "\n+"))))

(defun sla--receive-edit (edit event)
  "Take EVENT of the request for EDIT."
  (pcase (plist-get event :type)
    ((or "error" "lost") (sla--complain "%s" (plist-get event :message)))
    ("done"
     (setq sla--info event)
     (setf (sla--edit-new edit) (sla--unfenced (plist-get event :text) (sla--edit-old edit)))
     (cond
      ((not (equal (plist-get event :finish_reason) "stop"))
       (sla--complain "the new text was cut off by `sla-edit-max-tokens' (%d) or the model's context" sla-edit-max-tokens))
      ((equal (sla--edit-new edit) (sla--edit-old edit)) (sla--complain "the model would change nothing"))
      ((buffer-live-p (sla--edit-buffer edit)) (sla--show-edit edit))))))

(defun sla--show-edit (edit)
  "Show EDIT as a diff."
  (let ((name (buffer-name (sla--edit-buffer edit)))
        (buffer (get-buffer-create "*sla-edit*")))
    (with-current-buffer buffer
      (let ((inhibit-read-only t))
        (erase-buffer)
        (insert (sla--diff (sla--edit-old edit) (sla--edit-new edit) name))
        (goto-char (point-min)))
      (sla-edit-mode)
      (setq buffer-read-only t)
      (setq sla--edit edit))
    (display-buffer buffer)))

(defun sla--diff (old new name)
  "The lines that differ between OLD and NEW, as a unified diff of file NAME."
  (let* ((coding-system-for-write 'utf-8-unix)
         (coding-system-for-read 'utf-8-unix)
         (files (list (make-temp-file "sla" nil nil old) (make-temp-file "sla" nil nil new))))
    (unwind-protect
        (with-temp-buffer
          (apply #'call-process diff-command nil t nil "-u" "--label" name "--label" name files)
          (buffer-string))
      (mapc #'delete-file files))))

(defun sla-edit-accept ()
  "Take the change in this buffer."
  (interactive)
  (let ((edit (or sla--edit (user-error "No change is shown here"))))
    (unless (buffer-live-p (sla--edit-buffer edit)) (user-error "The buffer that was to be changed is gone"))
    (with-current-buffer (sla--edit-buffer edit)
      (save-restriction
        (widen)
        (let ((beginning (marker-position (sla--edit-beginning edit))) (end (marker-position (sla--edit-end edit))))
          (unless (equal (buffer-substring-no-properties beginning end) (sla--edit-old edit))
            (user-error "The text has changed since; ask again"))
          (undo-boundary)
          (save-excursion
            (goto-char beginning)
            (delete-region beginning end)
            (insert (sla--edit-new edit))))))
    (sla-edit-drop)))

(defun sla-edit-drop ()
  "Drop the change in this buffer."
  (interactive)
  (let ((window (get-buffer-window)))
    (if window (quit-window t window) (kill-buffer))))

(provide 'sla)

;;; sla.el ends here
