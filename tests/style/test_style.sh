#!/bin/sh
# The rules that need no build: who may know whom, banned calls, sizes, unfinished business.
lib=$(cd "$(dirname "$0")/../lib" && pwd) && . "$lib/sh-tap.sh"
cd "$DEPOT_SRC" || exit 1

no_unfinished_business() {
    ! grep -rnwE --include='*.[ch]' --include='*.lua' --include='*.sql' --include='*.sh' --include='*.js' --include='*.ini' \
        'T[O]DO|F[I]XME|X[X]X|H[A]CK' core plugins lua sql tests tools conf.d configure Makefile 2> /dev/null
}

every_source_says_what_it_is_for() {
    find core plugins tests \( -name '*.c' -o -name '*.h' \) -exec awk 'FNR == 1 && !/^\/\*/ { print FILENAME ": begins without a comment" }' {} + |
        grep . && return 1
    return 0
}

no_trailing_blanks() {
    ! grep -rnE --include='*.[ch]' --include='*.lua' --include='*.sql' --include='*.sh' --include='*.ini' \
        '[[:blank:]]+$' core plugins lua sql tests tools conf.d configure Makefile 2> /dev/null
}

ok "layers point one way, nothing banned is called" sh tools/check-layers.sh "$DEPOT_SRC"
ok "no file over 600 lines, no function over 80, no nesting over 4" sh tools/check-sizes.sh "$DEPOT_SRC"
ok "no unfinished business" no_unfinished_business
ok "every C file begins with what it is for" every_source_says_what_it_is_for
ok "no trailing blanks" no_trailing_blanks
finish
