# c-code.awk - C with comments and the insides of strings blanked; lines keep their numbers. Used by the style checks.
# One file per run. `#include "x"` lines keep their text.
BEGIN { in_comment = 0 }
{
    if (!in_comment && $0 ~ /^[ \t]*#[ \t]*include/) { print; next }
    line = $0
    code = ""
    n = length(line)
    for (i = 1; i <= n; i++) {
        c = substr(line, i, 1)
        two = substr(line, i, 2)
        if (in_comment) {
            if (two == "*/") { in_comment = 0; i++ }
        } else if (two == "/*") {
            in_comment = 1
            i++
            code = code " "
        } else if (two == "//") {
            break
        } else if (c == "\"" || c == "'") {
            quote = c
            code = code c
            for (i++; i <= n && (d = substr(line, i, 1)) != quote; i++) {
                if (d == "\\") i++
            }
            code = code quote
        } else {
            code = code c
        }
    }
    print code
}
