/* Everything, at one level: included once for each, with LEVEL, V and RUN set. */
#include "kernels.h"
#include "lanes.h"
#include "product.h"
#include "recurrence.h"
#include "softmax.h"
#include "layers.h"
#include "elementwise.h"
#include "lanes64.h"
#include "draws.h"

typedef int (*Operation)(const Op *, int, int);

/* In the order of terry.models.kernels.operations.Code. */
static const Operation operations[] = {
    check_ids,     copy_rows,       zero,          lay_out_forward, lay_out_backward, lay_out_bias,   project,
    project_back,  weight_slopes,   bias_slopes,   scatter,         turn_forward,     turn_backward,  recurrence_forward,
    recurrence_backward, softmax_gather, softmax_scores, softmax_largest, softmax_exp, softmax_losses, softmax_weights,
    softmax_hidden, dropout,        add_scaled,    add_changes,     squares,          clip,           update,
    average,        draw_read,       draw_project,  draw_step,        draw_scores,     draw_narrow,  draw_sums,
    draw_pick,
};

int RUN(const Op *ops, int64_t count, int part, int parts, void (*wait)(void *), void *with) {
    int64_t known = (int64_t)(sizeof operations / sizeof *operations);
    for (int64_t i = 0; i < count; i++) {
        if (ops[i].code < 0 || ops[i].code >= known) return BAD_CODE;
        int status = operations[ops[i].code](ops + i, part, parts);
        if (status) return status;
        if (parts > 1) wait(with);
    }
    return OK;
}
