/* analyzer.h - put before every file by `make lint`: tells clang's analyzer, which sees one file at a time, that the
 * calls which fill an error give back false. */
#include "depot/base.h"

#undef DEPOT_FAIL
#define DEPOT_FAIL(err, symbol, ...) (depot_fail((err), DEPOT_E_##symbol, __FILE__, __LINE__, __VA_ARGS__) && false)
#undef DEPOT_FAIL_ERRNO
#define DEPOT_FAIL_ERRNO(err, ...) (depot_fail_errno((err), __FILE__, __LINE__, __VA_ARGS__) && false)
#define depot_hint(...) (depot_hint(__VA_ARGS__) && false)
#define depot_wrap(...) (depot_wrap(__VA_ARGS__) && false)
