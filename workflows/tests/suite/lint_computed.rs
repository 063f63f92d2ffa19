//! Where GitHub's parser takes an expression in place of a mapping or of a key, and where it takes none;
//! each case was tried with that parser.

use super::lint::{check, job, on, says};

#[test]
fn an_expression_may_give_the_defaults_of_a_job() {
    says(&job("    defaults:\n      run: ${{ fromJSON(vars.DEFAULTS) }}\n"), &[]);
    says(
        &job("    defaults:\n      run: ${{ secrets.x }}\n"),
        &["7:16 e context-availability: the context 'secrets' is not available in defaults.run of a job"],
    );
    says(
        &job("    defaults: ${{ github.event }}\n"),
        &["6:15 e wrong-type: 'defaults' must be a mapping, found '${{ github.event }}'"],
    );
    says(
        &check(
            "on: push\ndefaults:\n  run: ${{ github.event }}\njobs: {a: {runs-on: ubuntu-latest, steps: [run: x]}}\n",
        ),
        &["3:8 e wrong-type: 'defaults.run' must be a mapping, found '${{ github.event }}'"],
    );
}

#[test]
fn outputs_and_arguments_of_calls_are_written_out() {
    says(
        &job("    outputs: ${{ github.event }}\n"),
        &["6:18 e context-availability: 'outputs' takes no expressions"],
    );
    says(
        &job("    outputs:\n      ${{ github.ref }}: x\n"),
        &["7:11 e context-availability: a key of 'outputs' takes no expressions"],
    );
    let call = |keys: &str| {
        check(&format!("on: push\njobs:\n  a:\n    uses: o/r/.github/workflows/w.yml@v1\n{keys}"))
    };
    says(
        &call("    with: ${{ github.event }}\n"),
        &["5:15 e context-availability: 'with' takes no expressions"],
    );
    says(
        &call("    secrets: ${{ github.event }}\n"),
        &["5:18 e context-availability: 'secrets' takes no expressions"],
    );
    says(
        &call("    with:\n      ${{ github.ref }}: x\n"),
        &["6:11 e context-availability: a key of 'with' takes no expressions"],
    );
}

#[test]
fn computed_keys_are_warned_of_where_github_takes_them() {
    let container = "    container:\n      ${{ github.ref }}: x\n      image: y\n";
    says(&job(container), &["7:7 w unknown-key: the key '${{ github.ref }}' in 'container' is computed"]);
    says(
        &job("    strategy:\n      ${{ insert }}: x\n"),
        &["7:7 w unknown-key: the key '${{ insert }}' in 'strategy' is computed"],
    );
    says(
        &job("    ${{ github.ref }}: x\n"),
        &["6:5 e unknown-key: unexpected key '${{ github.ref }}' in a job"],
    );
}

#[test]
fn time_zones_are_those_of_the_database() {
    let zone = |zone: &str| on(&format!("on:\n  schedule:\n    - cron: '0 4 * * *'\n      timezone: {zone}"));
    for known in ["Europe/Lisbon", "UTC", "Etc/GMT+2", "america/sao_paulo"] {
        says(&zone(known), &[]);
    }
    says(
        &zone("Europe/Lisboa"),
        &["4:17 w cron: unknown time zone 'Europe/Lisboa' (did you mean 'Europe/Lisbon'?)"],
    );
    says(
        &zone("sao paulo"),
        &["4:17 w cron: unknown time zone 'sao paulo' (did you mean 'America/Sao_Paulo'?)"],
    );
    says(
        &zone("somewhere else"),
        &["4:17 w cron: unknown time zone 'somewhere else' (zones have names as in the IANA database"],
    );
}
