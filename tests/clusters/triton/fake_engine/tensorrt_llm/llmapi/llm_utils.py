def update_llm_args_with_extra_dict(options, extra):
    return {**options, **extra}
