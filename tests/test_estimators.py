from __future__ import annotations

import functools
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import BaggingClassifier, VotingClassifier
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier, RidgeClassifierCV
from sklearn.metrics import fbeta_score, make_scorer, roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import NearestCentroid
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler
from sklearn.svm import SVC, LinearSVC

from slcluster import estimators
from slcluster.errors import InputError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 4))
Y = np.arange(30) % 2


def test_names_are_those_of_nilearn() -> None:
    from nilearn.decoding._utils import SUPPORTED_ESTIMATORS

    theirs = {name: how for kind in SUPPORTED_ESTIMATORS.values() for name, how in kind.items()}
    ours = {"gnb", "gnb_pooled", "nearest_centroid", "lda", "correlation", "correlation_centered"}
    assert set(estimators.NAMES) == {*theirs, *ours, "crossnobis", "split_half"}
    for name, how in theirs.items():
        made, expected = estimators.resolve(name), how["estimator"](**how["params"], **how["extra_params"])
        assert type(made) is type(expected), name
        found, wanted = made.get_params(), expected.get_params()
        if wanted.get("random_state", 0) is None:  # nilearn leaves it to chance; a map must be repeatable
            wanted["random_state"] = estimators.DEFAULT_SEED
        assert found == wanted, name


def test_what_only_ours_has_is_found_by_name() -> None:
    for name, engine in (("gnb_pooled", "gnb"), ("correlation_centered", "correlation")):
        assert estimators.choose_engine("auto", estimators.resolve(name)) == engine
    assert type(estimators.resolve("gnb_pooled")).__name__ == "PooledGaussianNB"
    assert estimators.resolve("correlation_centered").subtract_mean
    assert not estimators.resolve("correlation").subtract_mean


@pytest.mark.parametrize(
    ("name", "offered"),
    [("svm", "'svc'"), ("ridge_clasifier", "'ridge_classifier'"), ("logisticl1", "'logistic_l1'")],
)
def test_an_unknown_name_is_answered_with_the_nearest(name: str, offered: str) -> None:
    with pytest.raises(InputError, match=f"unknown estimator '{name}'; did you mean .*{offered}"):
        estimators.resolve(name)


def test_a_name_near_nothing_is_answered_with_all() -> None:
    with pytest.raises(InputError, match="unknown estimator 'xyz'; known: correlation, .* svr$"):
        estimators.resolve("xyz")


def test_things_that_are_no_estimators() -> None:
    with pytest.raises(InputError, match=r"instance, got the class LinearSVC; write LinearSVC\(\)"):
        estimators.resolve(LinearSVC)
    with pytest.raises(
        InputError, match=r"a name \(correlation, .*, a scikit-learn estimator or a function .*, got int"
    ):
        estimators.resolve(3)


def test_seeds_are_filled_in_everywhere_and_those_given_are_kept() -> None:
    given = make_pipeline(StandardScaler(), BaggingClassifier(LinearSVC(random_state=5), n_estimators=2))
    resolved = estimators.resolve(given)
    params = resolved.get_params()
    assert params["baggingclassifier__random_state"] == estimators.DEFAULT_SEED
    assert params["baggingclassifier__estimator__random_state"] == 5
    assert given.get_params()["baggingclassifier__random_state"] is None, "the user's own is not changed"


def test_a_search_inside_a_sphere_gets_a_seed_for_its_splitter() -> None:
    search = GridSearchCV(RidgeClassifier(), {"alpha": [0.1, 10.0]}, cv=StratifiedKFold(3, shuffle=True))
    resolved = estimators.resolve(make_pipeline(StandardScaler(), search))
    assert resolved.get_params()["gridsearchcv__cv"].random_state == estimators.DEFAULT_SEED
    assert search.cv.random_state is None


def test_classification_by_tag_else_by_targets() -> None:
    text, numbers = np.array(["a", "b"]), np.array([0.5, 1.5])
    assert estimators.is_classification(LinearSVC(), numbers)
    assert estimators.is_classification(make_pipeline(StandardScaler(), LinearSVC()), text)
    assert not estimators.is_classification(Ridge(), text)
    assert estimators.is_classification(StandardScaler(), text)
    assert not estimators.is_classification(StandardScaler(), numbers)


def test_engines() -> None:
    assert estimators.choose_engine("auto", LinearSVC()) in estimators.ENGINES
    assert estimators.choose_engine("sklearn", Ridge()) == "sklearn"
    with pytest.raises(InputError, match="unknown engine 'sklern'; did you mean 'sklearn'"):
        estimators.choose_engine("sklern", LinearSVC())


FACES = np.array(["face", "house"])


@pytest.mark.parametrize(
    ("estimator", "what"),
    [
        (LinearSVC(C=-1), "LinearSVC: The 'C' parameter"),
        (LinearSVC(C="x"), "'C' parameter"),
        (LinearSVC(intercept_scaling=0), "'intercept_scaling' parameter"),
        (LinearSVC(tol=-1), "'tol' parameter"),
        (LinearSVC(dual="x"), "'dual' parameter"),
        (LinearSVC(class_weight="balance"), "'class_weight' parameter"),
        (LogisticRegression(C=0), "'C' parameter"),
        (Ridge(alpha="x"), "'alpha' parameter"),
        (GaussianNB(var_smoothing=-1), "'var_smoothing' parameter"),
        (LinearDiscriminantAnalysis(solver="lsqr", shrinkage=2), "'shrinkage' parameter"),
        (make_pipeline(StandardScaler(), make_pipeline(LinearSVC(C=-1))), "LinearSVC: The 'C' parameter"),
        (SVC(kernel="x"), "'kernel' parameter"),
    ],
    ids=repr,
)
def test_parameters_that_scikit_learn_refuses(estimator: Any, what: str) -> None:
    """When planning, and not in ``fit`` on a worker, or never, because a fast engine takes any number."""
    with pytest.raises(InputError, match=what) as caught:
        estimators.resolve(estimator)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "estimator",
    [
        LinearSVC(class_weight={"zzz": 2.0}),
        LinearSVC(class_weight={"face": -1.0}),
        LogisticRegression(class_weight={"zzz": 2.0}),
        LogisticRegression(class_weight={"face": float("nan")}),
        LogisticRegression(dual=True),
        LinearDiscriminantAnalysis(n_components=5),
        LinearDiscriminantAnalysis(priors=[0.5, 0.25, 0.25]),
        LinearDiscriminantAnalysis(priors=[1.5, -0.5]),
        LinearDiscriminantAnalysis(priors=["x", "y"]),
        GaussianNB(priors=[0.2, 0.9]),
        GaussianNB(priors=[1.0]),
        NearestCentroid(priors=[0.2, 0.9]),
        RidgeClassifierCV(alphas=[]),
        RidgeClassifierCV(alphas=["x"]),
        RidgeClassifierCV(alphas=[1.0, -1.0]),
        RidgeClassifier(alpha=np.array([1.0, 2.0])),
        RidgeClassifier(alpha=[1, 2]),
    ],
    ids=repr,
)
def test_what_only_scikit_learn_can_judge_is_left_to_it(estimator: Any) -> None:
    assert estimators.choose_engine("auto", estimators.resolve(estimator), classes=FACES) == "sklearn"


@pytest.mark.parametrize(
    "estimator",
    [
        LinearSVC(class_weight={"face": 2.0, "unused": 3.0, "house": 1}),
        LinearSVC(class_weight={"face": 0.5}),
        LogisticRegression(class_weight={"house": 4}),
        LogisticRegression(dual=True, solver="liblinear"),
        LinearDiscriminantAnalysis(n_components=1, priors=(0.25, 0.75)),
        GaussianNB(priors=[0, 1]),
        NearestCentroid(priors=[0.2, 0.8]),
        RidgeClassifierCV(alphas=(1, 2.5)),
        RidgeClassifierCV(alphas=3.0),
    ],
    ids=repr,
)
def test_what_is_in_order_is_fast(estimator: Any) -> None:
    assert estimators.choose_engine("auto", estimators.resolve(estimator), classes=FACES) != "sklearn"


# --- scorers


def test_no_scoring_is_the_estimators_own_score() -> None:
    for estimator, name in ((LinearSVC(), "accuracy"), (Ridge(), "r2")):
        names, scorer, description = estimators.make_scorer(None, estimator)
        assert (names, description) == ((name,), None)
        fitted = clone(estimator).fit(X, Y)
        assert scorer(fitted, X, Y) == fitted.score(X, Y)


def test_several_scorers_in_the_order_asked_for() -> None:
    fitted = LogisticRegression().fit(X, Y)
    names, scorer, _ = estimators.make_scorer(["roc_auc", "accuracy"], fitted)
    found = scorer(fitted, X, Y)
    assert names == ("roc_auc", "accuracy")
    assert found["accuracy"] == fitted.score(X, Y)
    assert found["roc_auc"] == roc_auc_score(Y, fitted.decision_function(X))


def test_a_mapping_names_the_metrics() -> None:
    own = make_scorer(fbeta_score, beta=2)
    names, scorer, _ = estimators.make_scorer({"hits": "accuracy", "f2": own}, LinearSVC())
    assert names == ("hits", "f2")
    assert set(scorer(LinearSVC().fit(X, Y), X, Y)) == {"hits", "f2"}


def test_a_function_is_a_metric_of_its_name() -> None:
    def margin(fitted: Any, x: np.ndarray, y: np.ndarray) -> float:
        return float(np.abs(fitted.decision_function(x)).min())

    names, scorer, description = estimators.make_scorer(margin, LinearSVC())
    assert names == ("margin",)
    fitted = LinearSVC(random_state=0).fit(X, Y)
    assert scorer(fitted, X, Y) == margin(fitted, X, Y)
    assert json.dumps(description)


def test_an_unknown_scorer_is_answered_with_the_nearest() -> None:
    with pytest.raises(
        InputError, match=r"unknown scorer 'acuracy'; did you mean 'accuracy'.*get_scorer_names"
    ):
        estimators.make_scorer("acuracy", LinearSVC())
    with pytest.raises(InputError, match="unknown scorer 'rocauc'; did you mean .*'roc_auc'"):
        estimators.make_scorer(["accuracy", "rocauc"], LinearSVC())


def test_scorings_that_say_nothing_clear() -> None:
    with pytest.raises(InputError, match="scoring names no metric"):
        estimators.make_scorer([], LinearSVC())
    with pytest.raises(InputError, match="no score method; pass scoring="):
        estimators.make_scorer(None, SelectKBest())
    with pytest.raises(InputError, match="scoring must be .*, got 5"):
        estimators.make_scorer(5, LinearSVC())
    with pytest.raises(InputError, match="scoring must be .*, got 5"):
        estimators.make_scorer(["accuracy", 5], LinearSVC())


def test_two_metrics_of_one_name_are_refused() -> None:
    """Scorer objects are called after their function; one of the two would be lost."""
    two = [make_scorer(fbeta_score, beta=1), make_scorer(fbeta_score, beta=2)]
    with pytest.raises(
        InputError, match="two metrics are called 'fbeta_score'; pass a mapping of names to scorers"
    ):
        estimators.make_scorer(two, LinearSVC())


# --- descriptions


@pytest.mark.parametrize(
    "estimator",
    [
        *map(estimators.resolve, sorted(estimators.NAMES.keys() - {"crossnobis", "split_half"})),
        make_pipeline(StandardScaler(), LinearSVC(C=0.5, class_weight="balanced")),
        make_pipeline(MinMaxScaler(feature_range=(-1, 1)), SVC(kernel="rbf", gamma=0.1)),
        Pipeline(
            [("scale", StandardScaler()), ("skip", "passthrough"), ("lda", LinearDiscriminantAnalysis())]
        ),
        LogisticRegression(class_weight={0: 1.0, 1: 2.0}, solver="liblinear"),
        GaussianNB(priors=[0.25, 0.75]),
        NearestCentroid(),
        MLPClassifier(hidden_layer_sizes=(3, 2), max_iter=5, random_state=0),
        VotingClassifier([("a", LinearSVC(random_state=0)), ("b", GaussianNB())]),
        BaggingClassifier(LinearSVC(random_state=1), n_estimators=2, random_state=0),
        GridSearchCV(RidgeClassifier(), {"alpha": [0.1, 10.0]}, cv=StratifiedKFold(3)),
        LinearSVC(tol=float("1e-300"), C=np.float32(2)),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_description_rebuilds_its_estimator(estimator: Any) -> None:
    described = json.loads(json.dumps(estimators.describe(estimator)))
    rebuilt = estimators.rebuild(described)
    assert type(rebuilt) is type(estimator)
    assert estimators.describe(rebuilt) == described
    fitted, again = clone(estimator).fit(X, Y), clone(rebuilt).fit(X, Y)
    assert np.array_equal(fitted.predict(X), again.predict(X))


def test_descriptions_that_hold_code_or_arrays_are_not_rebuilt() -> None:
    for value in (
        make_pipeline(SelectKBest(f_classif), LinearSVC()),
        GaussianNB(priors=np.array([0.5, 0.5])),
    ):
        with pytest.raises(InputError, match=r"holds functions or arrays; .* calling slc\.searchlight again"):
            estimators.rebuild(json.loads(json.dumps(estimators.describe(value))))


def test_a_store_must_not_name_code_to_import() -> None:
    for name in ("os.system", "sklearn_extra.Thing", "subprocess.Popen"):
        with pytest.raises(InputError, match="is not scikit-learn's"):
            estimators.rebuild({"class": name, "params": {}})


def _closure(beta: float) -> Any:
    def score(fitted: Any, x: np.ndarray, y: np.ndarray) -> float:
        return beta

    return score


def _default(beta: float) -> Any:
    def score(fitted: Any, x: np.ndarray, y: np.ndarray, weight: float = beta) -> float:
        return weight

    return score


def _keyword(beta: float) -> Any:
    def score(fitted: Any, x: np.ndarray, y: np.ndarray, *, weight: float = beta) -> float:
        return weight

    return score


class Method:
    def __init__(self, beta: float) -> None:
        self.beta = beta

    def score(self, fitted: Any, x: np.ndarray, y: np.ndarray) -> float:
        return self.beta


@pytest.mark.parametrize(
    "make",
    [
        lambda value: LinearSVC(C=value),
        lambda value: make_pipeline(StandardScaler(), LinearSVC(C=value)),
        lambda value: LogisticRegression(class_weight={0: 1.0, 1: value}),
        lambda value: GaussianNB(priors=np.array([value, 1 - value])),
        lambda value: np.array(["a", value], dtype=object),
        lambda value: make_scorer(fbeta_score, beta=value),
        lambda value: functools.partial(fbeta_score, beta=value),
        lambda value: functools.partial(fbeta_score, value),
        lambda value: FunctionTransformer(functools.partial(np.multiply, value)),
        lambda value: FunctionTransformer(np.multiply, kw_args={"x2": value}),
        lambda value: Method(value).score,
        _closure,
        _default,
        _keyword,
    ],
)
def test_what_differs_is_described_differently(make: Any) -> None:
    """Two analyses that give other numbers must not have one fingerprint."""
    one, same, other = (json.dumps(estimators.describe(make(value))) for value in (0.25, 0.25, 0.75))
    assert one == same
    assert one != other


def test_a_generator_has_no_description() -> None:
    with pytest.raises(InputError, match="random_state is a generator.*pass an integer seed"):
        estimators.describe(LinearSVC(random_state=np.random.RandomState(0)))


def test_another_process_gives_the_same_description() -> None:
    """Nothing in it depends on addresses or the hash seed."""
    code = (
        "import json, functools, numpy as np\n"
        "from sklearn.pipeline import make_pipeline\n"
        "from sklearn.feature_selection import SelectKBest, f_classif\n"
        "from sklearn.preprocessing import FunctionTransformer\n"
        "from sklearn.svm import LinearSVC\n"
        "from slcluster.estimators import describe\n"
        "it = make_pipeline(SelectKBest(functools.partial(f_classif)), FunctionTransformer(np.log1p),"
        " LinearSVC(class_weight={'b': 1, 'a': 2}))\n"
        "extra = np.array(['a', 'b'], dtype=object), {'x', 'yy', 'zzz', 'w'}\n"
        "print(json.dumps([describe(it), describe(extra)]))"
    )
    texts = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert texts[0] == texts[1]
    assert " at 0x" not in texts[0]
