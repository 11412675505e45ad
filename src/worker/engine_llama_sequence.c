/* Sequences of the engine over llama.cpp: copies, cuts and states. Cells are counted outside; positions, which are
 * fewer where pictures lie on a grid, are what llama.cpp knows (engine_place.h). */
#include "worker/engine_llama_private.h"

void llama_engine_copy(struct engine *engine, unsigned from, unsigned to, unsigned length)
{
    llama_memory_t memory = llama_get_memory(engine->context);
    llama_pos end = engine->info.can_trim ? (llama_pos)place_position(engine->places, from, length) : -1;
    llama_memory_seq_cp(memory, (llama_seq_id)from, (llama_seq_id)to, 0, end);
    place_copy(engine->places, from, to, length);
}

bool llama_engine_trim(struct engine *engine, unsigned sequence, unsigned length)
{
    llama_pos end = (llama_pos)place_position(engine->places, sequence, length);
    if (!llama_memory_seq_rm(llama_get_memory(engine->context), (llama_seq_id)sequence, end, -1))
        return false;
    place_trim(engine->places, sequence, length);
    return true;
}

bool llama_engine_has(struct engine *engine, unsigned sequence, unsigned length)
{
    llama_pos window = (llama_pos)llama_model_n_swa(engine->model);
    llama_pos first = llama_memory_seq_pos_min(llama_get_memory(engine->context), (llama_seq_id)sequence);
    llama_pos end = (llama_pos)place_position(engine->places, sequence, length);
    return window == 0 || first <= (end > window ? end - window : 0);
}

size_t llama_engine_state_size(struct engine *engine, unsigned sequence)
{
    size_t size = llama_state_seq_get_size(engine->context, (llama_seq_id)sequence);
    return size > 0 ? size + place_save_size(engine->places, sequence) : 0;
}

/* Where there are places, they stand behind llama.cpp's bytes. */
size_t llama_engine_state_save(struct engine *engine, unsigned sequence, void *out, size_t capacity)
{
    size_t behind = place_save_size(engine->places, sequence);
    if (capacity < behind)
        return 0;
    size_t size = llama_state_seq_get_data(engine->context, out, capacity - behind, (llama_seq_id)sequence);
    if (size == 0)
        return 0;
    place_save(engine->places, sequence, (char *)out + size);
    return size + behind;
}

bool llama_engine_state_load(struct engine *engine, unsigned sequence, const void *state, size_t size)
{
    size_t rest;
    if (place_load(engine->places, sequence, state, size, &rest) &&
        llama_state_seq_set_data(engine->context, state, rest, (llama_seq_id)sequence) > 0)
        return true;
    llama_memory_seq_rm(llama_get_memory(engine->context), (llama_seq_id)sequence, 0, -1);
    place_trim(engine->places, sequence, 0);
    return false;
}
