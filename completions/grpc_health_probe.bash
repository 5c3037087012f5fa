# bash completion for grpc_health_probe, made by src/cli/manual.rs

_grpc_health_probe() {
    local word=${COMP_WORDS[COMP_CWORD]} flag=${COMP_WORDS[COMP_CWORD - 1]} words='-addr -service -watch -list -all-addresses -alive -diagnose -rpc-header -rpc-header-file -authority -user-agent -gzip -connect-timeout -rpc-timeout -timeout -wait -tls -tls-ca-cert -tls-client-cert -tls-client-key -tls-server-name -tls-no-verify -tls-no-alpn -spiffe -spiffe-id -alts -alts-handshaker -exit-codes -output -q -v -version -help'
    # A flag may have two dashes.
    if [[ $word == --* ]]; then
        words=-${words// -/ --}
    fi
    # -flag=value is three words here. A boolean has its value after "=" only.
    if [[ $word == = ]]; then
        word= words='true false'
    elif [[ $flag == = ]]; then
        flag=${COMP_WORDS[COMP_CWORD - 2]} words='true false'
    fi
    case ${flag/#--/-} in
        -exit-codes) words='docker detailed' ;;
        -output) words='text json' ;;
        -tls-ca-cert | -tls-client-cert | -tls-client-key)
            # Bash itself completes files best; versions before 4 cannot be asked to.
            compopt -o default 2>/dev/null
            words= ;;
        -addr | -service | -rpc-header | -rpc-header-file | -authority | -user-agent | -connect-timeout | -rpc-timeout | -timeout | -wait | -tls-server-name | -spiffe-id | -alts-handshaker) words= ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}

complete -F _grpc_health_probe grpc_health_probe
