"""A control that writes down where it was called."""


def tell(word):
    with open("told", "a") as file:
        file.write(word + "\n")


def configure_control(experiment, mark=None, stop=False, fail=False):
    tell("configure " + experiment["title"])


def cleanup_control():
    tell("cleanup")


def before_experiment_control(context, mark=None, stop=False, fail=False):
    tell("before experiment " + context["title"])


def before_hypothesis_control(context, mark=None, stop=False, fail=False):
    tell("before hypothesis " + context["title"])


def after_hypothesis_control(context, state, mark=None, stop=False, fail=False):
    tell(f"after hypothesis {state['steady_state_met']}")


def before_method_control(context, mark=None, stop=False, fail=False):
    tell("before method")


def after_method_control(context, state, mark=None, stop=False, fail=False):
    tell(f"after method {len(state)}")


def before_rollback_control(context, mark=None, stop=False, fail=False):
    tell("before rollback")


def before_activity_control(context, mark=None, stop=False, fail=False):
    tell(f"before {context['name']} {mark}")
    if stop:
        from chaoslib.exceptions import InterruptExecution

        raise InterruptExecution("enough")
    if fail:
        raise ValueError("on purpose")


def after_activity_control(context, state, mark=None, stop=False, fail=False):
    tell(f"after {context['name']} {state['status']}")
