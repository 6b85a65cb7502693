//! `coffre completions`: scripts that ask `coffre complete` for what fits, so that snapshots and jobs are among it.

use clap::Command;
use clap_complete::Shell;

use crate::cli::exit::Exit;
use crate::cli::failure::Fallible;
use crate::cli::output;

/// Flags of `completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Snapshots are completed from a listing, which needs no passphrase; hosts, jobs and tags only where a passphrase is set. Nothing is \
asked, and a store that does not answer within three seconds is left alone.

Examples:
  source <(coffre completions bash)
  coffre completions bash > /usr/share/bash-completion/completions/coffre
  coffre completions zsh > /usr/share/zsh/vendor-completions/_coffre
  coffre completions fish > ~/.config/fish/completions/coffre.fish")]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// Bash breaks words at colons and equals signs, too: only what stands behind the last one is replaced.
const BASH: &str = r#"# bash completion for coffre
_coffre() {
    local typed=${COMP_LINE:0:COMP_POINT} line word before
    word=${typed##*[[:space:]]}
    before=${word%"$2"}
    COMPREPLY=()
    while IFS= read -r line; do
        line=${line%%$'\t'*}
        [[ $line == "$word"* ]] && COMPREPLY+=("${line#"$before"}")
    done < <("${1:-coffre}" complete --line "$typed" </dev/null 2>/dev/null)
    [[ ${#COMPREPLY[@]} -eq 0 || ${COMPREPLY[0]} != *= ]] || compopt -o nospace
}
complete -o bashdefault -o default -o nosort -F _coffre coffre 2>/dev/null || complete -o bashdefault -o default -F _coffre coffre
"#;

const ZSH: &str = r#"#compdef coffre
_coffre() {
    local line
    local -a found
    for line in "${(@f)$(coffre complete -- "${(@)words[2,CURRENT]}" </dev/null 2>/dev/null)}"; do
        [[ -n $line ]] && found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
    done
    if (( ${#found} )); then
        _describe -V 'coffre' found
    else
        _files
    fi
}
if [ "$funcstack[1]" = "_coffre" ]; then
    _coffre "$@"
else
    compdef _coffre coffre
fi
"#;

const FISH: &str = r#"# fish completion for coffre
function __coffre_complete
    set -l words (commandline -opc)
    set -l found (coffre complete -- $words[2..-1] (commandline -ct) </dev/null 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c coffre -f -k -a '(__coffre_complete)'
"#;

/// Prints the script of a shell.
pub fn run(mut program: Command, args: &Args) -> Fallible<Exit> {
    match args.shell {
        Shell::Bash => output::print(BASH),
        Shell::Zsh => output::print(ZSH),
        Shell::Fish => output::print(FISH),
        other => {
            let mut script = Vec::new();
            clap_complete::generate(other, &mut program, "coffre", &mut script);
            output::print(&String::from_utf8_lossy(&script))
        }
    }
}
